"""Convert the daemon's state to the figures behind the metrics."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from resource import getpagesize

from gatewayd.config import Settings
from gatewayd.control import messages, metrics_messages
from gatewayd.jobs.model import AttemptRecord
from gatewayd.planning.planner import StoreSnapshot
from gatewayd.status.counters import CounterFigures, Transferred
from gatewayd.status.gateway import LagHistogram


def metrics_result(
    settings: Settings,
    known: StoreSnapshot,
    *,
    status: messages.StatusResult,
    devices: Sequence[messages.DeviceView],
    figures: CounterFigures,
    under_way: Callable[[int], AttemptRecord | None],
    loop_lag: LagHistogram,
) -> metrics_messages.MetricsResult:
    """Everything that the metrics are made of; of devices that are configured, and no others."""
    apps = {device.name: device.app_id for device in settings.devices}
    return metrics_messages.MetricsResult(
        status=status,
        devices=tuple(devices),
        resident_bytes=resident_bytes(),
        loop_lag=metrics_messages.LagHistogram(**asdict(loop_lag)),
        traffic=tuple(_traffic(devices, figures, under_way)),
        jobs_ended=tuple(_ended(apps, figures)),
        messages=tuple(
            metrics_messages.Messages(outcome=outcome, count=count)
            for outcome, count in sorted(figures.messages.items())
        ),
        releases=tuple(_releases(settings, known)),
    )


def resident_bytes() -> int:
    """Return the memory of this process; /proc/self is there in the unit's sandbox, too."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def _traffic(
    devices: Iterable[messages.DeviceView],
    figures: CounterFigures,
    under_way: Callable[[int], AttemptRecord | None],
) -> Iterable[metrics_messages.TrafficView]:
    for device in devices:
        total = figures.transferred.get(device.name, Transferred())
        now = under_way(device.job) if device.job is not None else None
        if now is not None:
            total.add(now)
        yield metrics_messages.TrafficView(device=device.name, **asdict(total))


def _ended(apps: dict[str, str], figures: CounterFigures) -> Iterable[metrics_messages.EndedJobs]:
    totals: Counter[tuple[str, str, str]] = Counter()
    for (device, result, code), count in figures.ended.items():
        if device in apps:
            totals[apps[device], result, code] += count
    for (app_id, result, code), count in sorted(totals.items()):
        yield metrics_messages.EndedJobs(app_id=app_id, result=result, code=code, count=count)


def _releases(settings: Settings, known: StoreSnapshot) -> Iterable[metrics_messages.ReleaseView]:
    """The last release of each topic of the applications that are configured."""
    apps = {device.app_id for device in settings.devices}
    newest = {release.topic: release for release in known.releases if not release.suspended_at}
    for topic, release in sorted(newest.items()):
        if settings.mqtt.ota_topic.parse(topic) is None or release.app_id not in apps:
            continue
        versions = {
            str(release.version(verdict))
            for (sha256, _), verdict in known.verdicts.items()
            if sha256 == release.sha256 and verdict.is_genuine
        }
        yield metrics_messages.ReleaseView(
            app_id=release.app_id,
            line=f"{release.major}.{release.minor}",
            channel=str(release.channel),
            version=versions.pop() if len(versions) == 1 else None,
            received_at=release.received_at,
        )
