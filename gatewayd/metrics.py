"""The metrics in Prometheus' text format, from the answer of a daemon.

Labels are bounded by the configuration: devices, applications, lines; and by what is in the program: states,
codes. What is not known is left out, since a zero would look like knowledge. The daemon counts in memory, so
its counters begin at zero with each start, as Prometheus expects of counters.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gatewayd.codes import Code
from gatewayd.control.messages import DeviceView, StatusResult
from gatewayd.control.metrics_messages import MetricsResult

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Every state of contract and status, so that a device that leaves one shows 0 there, not a gap.
STATES = (
    "unknown",
    "idle",
    "refused",
    "unreachable",
    "offered",
    "queued",
    "transferring",
    "staged",
    "activating",
    "succeeded",
    "failed",
    "superseded",
    "cancelled",
)
RESULTS = ("succeeded", "failed", "cancelled", "superseded")
PENDING = frozenset({"offered", "queued", "transferring", "staged", "activating"})
_BY_DEVICE = ("device", "app")


def exposition(found: MetricsResult) -> str:
    """Return all metrics as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once((*_of_gateway(found), *_of_devices(found), *_counters(found))))
    return generate_latest(registry).decode()


class _Once(Collector):
    """Metrics that are there already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def collect(self) -> Iterable[Metric]:
        """See the library."""
        return self._metrics


def _of_gateway(found: MetricsResult) -> Iterator[Metric]:
    status, lag = found.status, found.loop_lag
    yield InfoMetricFamily(
        "gatewayd_build",
        "The version that runs.",
        value={"version": status.version, "gateway": status.gateway},
    )
    for name, text, value in (
        (
            "start_time_seconds",
            "When the daemon started, seconds since 1970.",
            _seconds(status.started_at),
        ),
        ("resident_memory_bytes", "Memory of the daemon's process.", found.resident_bytes),
        ("broker_connected", "1 while the broker is connected.", status.broker.connected),
        ("config_in_force", "0 if the file on disk was refused.", status.config_refused is None),
        ("storage_ok", "0 while nothing can be stored.", _can_store(status)),
        ("devices", "How many devices are configured.", status.devices),
    ):
        yield GaugeMetricFamily(f"gatewayd_{name}", text, value=float(value))
    buckets = [(repr(bound), float(count)) for bound, count in zip(lag.bounds_s, lag.counts, strict=True)]
    yield HistogramMetricFamily(
        "gatewayd_event_loop_lag_seconds",
        "How late the event loop woke.",
        buckets=[*buckets, ("+Inf", float(lag.count))],
        sum_value=lag.sum_s,
    )
    received = GaugeMetricFamily(
        "gatewayd_release_received_timestamp_seconds",
        "When the release of a topic came, in seconds since 1970.",
        labels=("app", "line", "channel", "version"),
    )
    for one in found.releases:
        labels = (one.app_id, one.line, one.channel, one.version or "")
        received.add_metric(labels, _seconds(one.received_at))
    yield received


def _of_devices(found: MetricsResult) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "gatewayd_device_state", "1 for the state that the device is in.", labels=(*_BY_DEVICE, "state")
    )
    info = InfoMetricFamily(
        "gatewayd_device",
        "What the device is.",
        labels=(*_BY_DEVICE, "hardware_id", "installed_version", "latest_version", "code"),
    )
    for device in found.devices:
        names = _names(device)
        for one in dict.fromkeys((*STATES, device.state)):
            state.add_metric((*names, one), float(one == device.state))
        facts = (device.hardware_id, device.installed_version, device.latest_version, device.code)
        info.add_metric((*names, *(fact or "" for fact in facts)), {})
    yield from (state, info)
    yield from _gauges(found.devices)


def _gauges(devices: Iterable[DeviceView]) -> Iterator[Metric]:
    link_up = _by_device("device_link_up", "1 if it answered when it was last asked; absent if it never was.")
    pending = _by_device("device_update_pending", "1 while an update waits for it or is under way.")
    progress = _by_device("device_progress_ratio", "How much of the image it has, from 0 to 1.")
    contact = _by_device(
        "device_last_contact_timestamp_seconds", "When it answered last, in seconds since 1970."
    )
    for device in devices:
        names = _names(device)
        pending.add_metric(names, float(device.state in PENDING))
        if device.link.health != "unknown":
            link_up.add_metric(names, float(device.link.health == "ok"))
        if device.progress is not None and device.state in PENDING:
            progress.add_metric(names, device.progress / 100)
        if device.last_contact_at is not None:
            contact.add_metric(names, _seconds(device.last_contact_at))
    yield from (link_up, pending, progress, contact)


def _by_device(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gatewayd_{name}", text, labels=_BY_DEVICE)


def _counters(found: MetricsResult) -> Iterator[Metric]:
    sent = CounterMetricFamily(
        "gatewayd_transfer_sent_bytes", "Bytes of images sent to the device.", labels=_BY_DEVICE
    )
    repeated = CounterMetricFamily(
        "gatewayd_transfer_repeated_bytes", "Those of them that were sent again.", labels=_BY_DEVICE
    )
    resumes = CounterMetricFamily(
        "gatewayd_transfer_resumes", "How often a transfer went on where it had stopped.", labels=_BY_DEVICE
    )
    apps = {device.name: device.app_id for device in found.devices}
    for one in found.traffic:
        names = (one.device, apps[one.device])
        sent.add_metric(names, one.sent_bytes)
        repeated.add_metric(names, one.repeated_bytes)
        resumes.add_metric(names, one.resumes)
    ended = CounterMetricFamily(
        "gatewayd_jobs_ended", "Updates that ended, by result.", labels=("app", "result", "code")
    )
    # Zeros to begin with: what appears at 1 has not increased, as far as Prometheus can tell.
    totals = {(app, result, ""): 0 for app in sorted(set(apps.values())) for result in RESULTS}
    totals |= {(job.app_id, job.result, job.code): job.count for job in found.jobs_ended}
    for labels, count in totals.items():
        ended.add_metric(labels, count)
    messages = CounterMetricFamily("gatewayd_messages", "Firmware messages, by outcome.", labels=("outcome",))
    for message in found.messages:
        messages.add_metric((message.outcome,), message.count)
    yield from (sent, repeated, resumes, ended, messages)


def _can_store(status: StatusResult) -> bool:
    """Whether the gateway's trouble, if it has any, is another one than that of its store."""
    return status.trouble is None or status.trouble.code == Code.LOGIN_UNUSABLE


def _names(device: DeviceView) -> tuple[str, str]:
    return device.name, device.app_id


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
