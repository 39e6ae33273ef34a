"""What is known of each device right now, for whoever wants to hear of changes.

The board holds the latest status of every device and nothing older. A subscription remembers the names that
changed, not the changes: a slow reader sees the latest, and costs at most one entry per device.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from gatewayd.config import Device
from gatewayd.errors import GatewaydError
from gatewayd.jobs.eligibility import installed_version
from gatewayd.jobs.model import (
    NO_CONTACT,
    WAITING,
    Decision,
    DeviceRecord,
    Job,
    JobState,
    Pause,
    Plan,
    pause_of,
)
from gatewayd.jobs.planner import Known
from gatewayd.jobs.progress import TransferProgress
from gatewayd.jobs.worker import explain
from gatewayd.moments import utc_text
from gatewayd.protocol.session import DeviceInfo


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One device. `progress` is in percent; `code` and `reason` say why it waits or failed.

    `resumes` counts how often the device was found to have some of the image already.
    """

    name: str
    state: str
    app_id: str | None = None
    installed_version: str | None = None
    latest_version: str | None = None
    progress: int | None = None
    bytes_per_s: int | None = None
    job: int | None = None
    attempt: int | None = None
    code: str | None = None
    reason: str | None = None
    paused: bool = False
    received_bytes: int | None = None
    image_bytes: int | None = None
    resumes: int | None = None
    updated_at: datetime | None = None

    @property
    def seconds_left(self) -> int | None:
        """What the transfer still takes at its present speed."""
        if self.received_bytes is None or self.image_bytes is None or not self.bytes_per_s:
            return None
        return -(-(self.image_bytes - self.received_bytes) // self.bytes_per_s)

    def to_json(self) -> dict[str, Any]:
        """The document that is published; times in UTC, ISO 8601."""
        at = self.updated_at
        return {
            "state": self.state,
            "app_id": self.app_id,
            "installed_version": self.installed_version,
            "latest_version": self.latest_version,
            "progress": self.progress,
            "bytes_per_s": self.bytes_per_s,
            "job": self.job,
            "attempt": self.attempt,
            "code": self.code,
            "reason": self.reason,
            "paused": self.paused,
            "updated_at": at and utc_text(at, "milliseconds"),
        }

    def to_bytes(self) -> bytes:
        """`to_json` as compact UTF-8."""
        return json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":")).encode()

    def differs_in_progress_only(self, other: "DeviceStatus") -> bool:
        """Whether nothing but progress, speed and time sets the two apart."""
        mine = replace(
            self,
            progress=other.progress,
            bytes_per_s=other.bytes_per_s,
            received_bytes=other.received_bytes,
            updated_at=other.updated_at,
        )
        return mine == other


class StatusBoard:
    """The latest status of every device. For use on one event loop; `update` never blocks."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._devices: dict[str, DeviceStatus] = {}
        self._subscriptions: list[Subscription] = []

    def update(self, name: str, **changes: Any) -> None:
        """Change fields of a device, making it known when it is not; a change of nothing is not news."""
        old = self._devices.get(name)
        new = replace(old or DeviceStatus(name, "unknown"), **changes)
        if new == old:
            return
        self._devices[name] = replace(new, updated_at=self._clock())
        self._tell(name)

    def remove(self, name: str) -> None:
        """Forget a device; subscribers hear its name and find nothing."""
        if self._devices.pop(name, None):
            self._tell(name)

    def get(self, name: str) -> DeviceStatus | None:
        """The latest status of a device."""
        return self._devices.get(name)

    def all(self) -> tuple[DeviceStatus, ...]:
        """The latest status of every device, in the order they became known."""
        return tuple(self._devices.values())

    def subscribe(self) -> "Subscription":
        """Hear of changes from now on; use it in a `with`, which ends it."""
        subscription = Subscription(self._subscriptions)
        self._subscriptions.append(subscription)
        return subscription

    def _tell(self, name: str) -> None:
        for subscription in self._subscriptions:
            subscription._note(name)  # noqa: SLF001 - the two classes are one mechanism


class Subscription:
    """Names of devices that changed, each once however often it changed since it was last read."""

    def __init__(self, subscriptions: "list[Subscription]") -> None:
        self._subscriptions = subscriptions
        self._names: dict[str, None] = {}
        self._news = asyncio.Event()

    def close(self) -> None:
        """Hear no more."""
        if self in self._subscriptions:
            self._subscriptions.remove(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        await self._news.wait()
        name = next(iter(self._names))
        del self._names[name]
        if not self._names:
            self._news.clear()
        return name

    def take(self) -> tuple[str, ...]:
        """Return the names that are there already, for who can use several at once."""
        names = tuple(self._names)
        self._names.clear()
        self._news.clear()
        return names

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, name: str) -> None:
        self._names[name] = None
        self._news.set()


@dataclass(frozen=True, slots=True)
class LinkHealth:
    """How a device's link did when it was last used: `ok`, `unknown` (never), or the code of what failed."""

    code: str = "unknown"
    reason: str = ""


class StatusFeed:
    """Turns what jobs and the planner do into the statuses on the board."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board
        self._unreachable: dict[str, GatewaydError] = {}
        self._links: dict[str, LinkHealth] = {}
        self._pauses: dict[str, tuple[Pause, str] | None] = {}

    def link_health(self, name: str) -> LinkHealth:
        """How the link of a device did when it was last used."""
        return self._links.get(name, LinkHealth())

    # -- from the worker and the scheduler
    # ---------------------------------------------------------------------

    def job_moved(self, job: Job) -> None:
        """See `jobs.worker.Watcher`."""
        progress = {
            JobState.QUEUED: _percent(job.durable, job.image_size),
            JobState.TRANSFERRING: _percent(job.durable, job.image_size) or 0,
            JobState.STAGED: 100,
            JobState.ACTIVATING: 100,
            JobState.SUCCEEDED: 100,
        }.get(job.state)
        self._put(
            job.device,
            state=str(job.state),
            job=job.id,
            attempt=job.attempt,
            code=job.code or None,
            reason=job.reason or None,
            progress=progress,
            bytes_per_s=None,
            received_bytes=job.durable if job.image_size else None,
            image_bytes=job.image_size or None,
            resumes=job.resumes,
        )
        if job.code in NO_CONTACT:
            self._links[job.device] = LinkHealth(job.code, job.reason)

    def progressed(self, job: Job, progress: TransferProgress) -> None:
        """See `jobs.worker.Watcher`."""
        self._board.update(
            job.device,
            progress=_percent(progress.received, job.image_size),
            bytes_per_s=progress.bytes_per_s,
            received_bytes=progress.received,
            resumes=job.resumes + progress.resumes,
        )

    def device_seen(self, device: Device, info: DeviceInfo) -> None:
        """See `jobs.worker.Watcher`."""
        self._unreachable.pop(device.name, None)
        self._links[device.name] = LinkHealth("ok")
        if info.version is not None:
            self._board.update(device.name, installed_version=info.version)

    def unreachable(self, device: Device, error: GatewaydError) -> None:
        """A probe failed; the next plan shows it, unless there is more to say."""
        self._unreachable[device.name] = error
        self._links[device.name] = LinkHealth(error.code, explain(device, error))

    # -- from the planner
    # --------------------------------------------------------------------------------------

    def planned(self, plan: Plan, known: Known, devices: Sequence[Device]) -> None:
        """Show what the planner says of each device, and forget devices that are configured no more."""
        configured = {device.name: device for device in devices}
        for status in self._board.all():
            if status.name not in configured:
                self._board.remove(status.name)
        jobs: dict[str, Job] = {}
        for job in known.jobs:
            jobs[job.device] = job
        for decision in plan.decisions:
            device = configured[decision.device]
            record = known.devices.get(decision.device, DeviceRecord(decision.device))
            self._pauses[device.name] = pause_of(known.pauses, device.name)
            self._show(device, record, decision, jobs.get(decision.device))

    def _show(self, device: Device, record: DeviceRecord, decision: Decision, last: Job | None) -> None:
        """Show what is true now: a job that has ended only for as long as it says why things are so."""
        installed = str(installed_version(device, record))
        latest = installed if decision.code == "not_newer" else decision.version or installed
        self._board.update(
            device.name, app_id=device.app_id, installed_version=installed, latest_version=latest
        )
        if last is not None and last.is_active:
            status = self._board.get(device.name)
            if last.state in WAITING or status is None or status.job != last.id:
                self.job_moved(last)  # otherwise it runs, and speaks for itself
        elif last is not None and _is_told_by(last, decision):
            self.job_moved(last)
        elif decision.refused:
            self._settle(device, "refused", decision.code, decision.reason)
        elif device.name in self._unreachable:
            error = self._unreachable[device.name]
            self._settle(device, "unreachable", error.code, explain(device, error))
        else:
            state = "idle" if record.contact_seq else "unknown"
            self._settle(device, state, decision.code, decision.reason)

    def _settle(self, device: Device, state: str, code: str, reason: str) -> None:
        nothing = dict.fromkeys(
            ("job", "attempt", "progress", "bytes_per_s", "received_bytes", "image_bytes", "resumes")
        )
        self._put(device.name, state=state, code=code, reason=reason, **nothing)

    def _put(self, name: str, *, state: str, code: str | None, reason: str | None, **more: Any) -> None:
        """Show a state; of a paused device, unless it was activated already, that a person lets it wait."""
        pause = None if state == JobState.ACTIVATING else self._pauses.get(name)
        if pause is not None:
            who, way_out = pause
            code, reason = "paused", f"paused by {who.by} on {who.since} ({way_out})"
        self._board.update(name, state=state, code=code, reason=reason, paused=pause is not None, **more)


def _is_told_by(ended: Job, decision: Decision) -> bool:
    """Whether the planner's answer is what this job came to."""
    if ended.state is JobState.SUCCEEDED:
        return decision.code == "up_to_date"
    failed = ended.state is JobState.FAILED and ended.release_id == decision.release_id
    return failed and decision.refused and decision.code == ended.code


def _percent(part: int, whole: int) -> int | None:
    return part * 100 // whole if whole else None
