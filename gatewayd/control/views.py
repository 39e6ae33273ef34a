"""Convert the daemon's state to messages of the control socket."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gatewayd.config import ConfigErrors, Device, Periodic, Settings, UartSettings
from gatewayd.config.changes import Changes, Reloaded
from gatewayd.config.revision import revision_of
from gatewayd.control import messages
from gatewayd.errors import GatewaydError
from gatewayd.jobs.model import AttemptRecord, CreateJob, DeviceRecord, EndJob, Job, Pause
from gatewayd.jobs.transitions import JobState
from gatewayd.planning import commands, preview
from gatewayd.status.board import DeviceStatus
from gatewayd.status.feed import LinkHealth
from gatewayd.status.gateway import BrokerStatus, LagFigures
from gatewayd.timestamps import utc_text

_NOT_AT_BROKER = "the broker still has gatewayd's marker, and brought nothing on this topic when asked again"


def device_view(
    device: Device,
    status: DeviceStatus | None,
    health: LinkHealth,
    record: DeviceRecord,
    last_ended: Job | None,
) -> messages.DeviceView:
    """Everything about one device; `status` is None before the first plan."""
    info = record.info
    now = status or DeviceStatus(device.name, "unknown")
    return messages.DeviceView(
        name=device.name,
        app_id=device.app_id,
        hardware_id=info.hardware_id if info else None,
        device_id=info.device_id if info else None,
        link=_link(device, health),
        state=now.state,
        paused=now.paused,
        installed_version=now.installed_version,
        latest_version=now.latest_version,
        job=now.job,
        attempt=now.attempt,
        progress=now.progress,
        received_bytes=now.received_bytes,
        image_bytes=now.image_bytes,
        bytes_per_s=now.bytes_per_s,
        seconds_left=now.seconds_left,
        resumes=now.resumes,
        code=now.code,
        reason=now.reason,
        last_contact_at=record.contact_at or None,
        last_result=_last_result(last_ended) if last_ended else None,
        bootloader=info.bootloader if info else None,
        can_revert=info.can_revert if info else None,
    )


def job_view(job: Job, attempts: Sequence[AttemptRecord]) -> messages.JobView:
    """One job with its attempts."""
    received = max((attempt.received for attempt in attempts if not attempt.ended_at), default=0)
    return messages.JobView(
        id=job.id,
        device=job.device,
        from_version=job.from_version,
        version=job.version,
        state=job.state,
        code=job.code or None,
        reason=job.reason or None,
        topic=job.topic,
        decision=job.decision,
        created_at=job.created_at,
        updated_at=job.updated_at,
        transfers=job.attempt,
        failures=job.failures,
        resumes=job.resumes,
        image_sha256=job.image_sha256 or None,
        image_bytes=job.image_size or None,
        durable_bytes=max(job.durable, received),
        duration_s=round(sum(attempt.duration_s for attempt in attempts if attempt.ended_at), 3),
    )


def attempt_views(attempts: Sequence[AttemptRecord]) -> tuple[messages.AttemptView, ...]:
    """All attempts of a job. Bytes that an earlier attempt had already sent count as repeated."""
    sent = 0  # the furthest that any attempt got
    views = []
    for attempt in attempts:
        again = attempt.bytes_repeated
        if attempt.offset is not None:
            reached = attempt.offset + attempt.bytes_sent - attempt.bytes_repeated
            again += max(0, min(sent, reached) - attempt.offset)
            sent = max(sent, reached)
        views.append(_attempt_view(replace(attempt, bytes_repeated=again)))
    return tuple(views)


def _attempt_view(attempt: AttemptRecord) -> messages.AttemptView:
    return messages.AttemptView(
        number=attempt.number,
        times=attempt.times,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at or None,
        duration_s=attempt.duration_s,
        offset=attempt.offset,
        received_bytes=attempt.received,
        bytes_sent=attempt.bytes_sent,
        bytes_repeated=attempt.bytes_repeated,
        resumes=attempt.resumes,
        code=attempt.code or None,
        reason=attempt.reason or None,
    )


def forecast_view(forecast: preview.Forecast) -> messages.Forecast:
    """The planner's answer."""
    decision = forecast.decision
    return messages.Forecast(
        device=forecast.device,
        topics=tuple(sorted(forecast.topics)),
        follows=forecast.follows,
        would=_would(forecast.creates),
        version=decision.version or None,
        refused=decision.refused,
        code=decision.code,
        reason=decision.reason,
        ends=_end(forecast.ends),
    )


def assessment_view(assessment: preview.Assessment) -> messages.Assessment:
    """A release as assessed for a device."""
    release = assessment.release
    return messages.Assessment(
        topic=release.topic,
        version=assessment.version or None,
        size_bytes=release.size,
        received_at=release.received_at,
        code=assessment.code,
        reason=assessment.reason,
    )


def suspended_result(suspensions: Iterable[preview.Suspension]) -> messages.SuspendedResult:
    """The releases that the broker no longer has."""
    return messages.SuspendedResult(
        releases=tuple(
            messages.SuspendedRelease(
                topic=one.release.topic,
                version=one.version or None,
                size_bytes=one.release.size,
                received_at=one.release.received_at,
                suspended_at=one.release.suspended_at,
                devices=one.devices,
                code="not_at_broker",
                reason=_NOT_AT_BROKER,
            )
            for one in suspensions
        )
    )


def outcome_view(outcome: commands.CommandResult) -> messages.Outcome:
    """The result of a command."""
    job = outcome.job
    return messages.Outcome(
        device=outcome.device, job=job and job.id, state=job and str(job.state), text=outcome.text
    )


def outcomes_result(
    outcomes: Iterable[commands.CommandResult], refused: Iterable[tuple[str, GatewaydError]] = ()
) -> messages.OutcomesResult:
    """The results of commands, and why some were refused."""
    return messages.OutcomesResult(
        outcomes=tuple(map(outcome_view, outcomes)),
        refused=tuple(
            messages.Refusal(
                target=target,
                error=error_view(error),
            )
            for target, error in refused
        ),
    )


def pause_view(pause: Pause | None) -> messages.PauseFact | None:
    """Who paused it, and when."""
    return messages.PauseFact(by=pause.by, since=pause.since) if pause else None


def trouble_view(trouble: Mapping[str, str] | None) -> messages.Trouble | None:
    """The gateway's trouble, as in its status."""
    return messages.Trouble(**trouble) if trouble else None


def broker_view(settings: Settings, broker: BrokerStatus) -> messages.Broker:
    """The configured broker, and the state of the connection to it."""
    connect, next_in_s = settings.mqtt.connect, broker.next_connection_in_s
    next_at = None if next_in_s is None else datetime.now(UTC) + timedelta(seconds=next_in_s)
    return messages.Broker(
        host=settings.mqtt.host,
        port=settings.mqtt.port,
        connected=broker.is_connected,
        topics=tuple(sorted(broker.wanted)),
        subscribed=tuple(sorted(broker.granted)),
        every_s=round(connect.every.total_seconds()) if isinstance(connect, Periodic) else None,
        next_connection_at=next_at and utc_text(next_at),
        refused_messages=tuple(
            messages.RefusedMessage(topic=topic, code=error.code, reason=str(error))
            for topic, error in sorted(broker.refused.items())
        ),
        left_out=tuple(
            messages.RefusedMessage(topic=topic, code=error.code, reason=str(error))
            for topic, error in sorted(broker.left_out.items())
        ),
    )


def loop_lag_view(figures: LagFigures) -> messages.LoopLag:
    """How late the event loop was."""
    return messages.LoopLag(**asdict(figures))


def error_view(error: GatewaydError) -> messages.Error:
    """An error, with the mistakes of a configuration one by one."""
    if not isinstance(error, ConfigErrors):
        return messages.Error(code=error.code, message=error.message, hint=error.hint)
    count = len(error.mistakes)
    message = f"the configuration has {count} mistake{'' if count == 1 else 's'}; the old one stays in force"
    return messages.Error(code=error.code, message=message, mistakes=tuple(map(str, error.mistakes)))


def check_config_result(
    settings: Settings, revision: str, found: Settings | GatewaydError
) -> messages.CheckConfigResult:
    """What a reload of `settings` would find; `revision` is theirs."""
    file = str(settings.file.absolute())
    if isinstance(found, GatewaydError):
        return messages.CheckConfigResult(
            file=file, revision=revision, in_force=False, error=error_view(found)
        )
    changes = Changes.between(settings, found)
    return messages.CheckConfigResult(
        file=file,
        revision=revision,
        in_force=not changes and revision_of(found) == revision,
        added=changes.added,
        changed=changes.changed,
        removed=changes.removed,
        mqtt=changes.mqtt,
        warnings=tuple(map(str, found.warnings)),
    )


def reload_result(reloaded: Reloaded) -> messages.ReloadResult:
    """What a reload changed."""
    return messages.ReloadResult(
        file=str(reloaded.settings.file),
        warnings=tuple(str(warning) for warning in reloaded.settings.warnings),
        **asdict(reloaded.changes),
    )


def watchdog_s() -> float | None:
    """Return systemd's watchdog timeout; None: there is no watchdog."""
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isdecimal() else None


def _link(device: Device, health: LinkHealth) -> messages.Link:
    link = device.link
    baud = None
    if isinstance(link, UartSettings):
        baud = link.baud
        if not health.is_ok and not Path(link.uart).exists():
            health = LinkHealth("link_missing", f"{link.uart} does not exist")
    return messages.Link(
        kind=link.kind, address=link.address, baud=baud, health=health.code, reason=health.reason or None
    )


def _last_result(job: Job) -> messages.LastResult:
    return messages.LastResult(
        job=job.id,
        version=job.version,
        state=job.state,
        code=job.code or None,
        reason=job.reason or None,
        at=job.updated_at,
    )


def _would(creates: CreateJob | None) -> messages.Would:
    if creates is None:
        return "nothing"
    return "ask for approval" if creates.state is JobState.OFFERED else "update"


def _end(end: EndJob | None) -> messages.EndOfJob | None:
    if end is None:
        return None
    return messages.EndOfJob(job=end.job_id, state=end.state, code=end.code, reason=end.reason)
