"""Translates events of jobs and the planner into statuses on the board."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from gatewayd.codes import Code, meaning
from gatewayd.config import Device
from gatewayd.delivery.attempt import with_address
from gatewayd.delivery.progress import TransferProgress
from gatewayd.errors import GatewaydError
from gatewayd.jobs.eligibility import installed_version
from gatewayd.jobs.model import Decision, DeviceRecord, Job, Pause, Plan, pause_of
from gatewayd.jobs.same_board import Elsewhere, answering_elsewhere, is_of_its_board
from gatewayd.jobs.transitions import WAITING, JobState
from gatewayd.planning.planner import StoreSnapshot
from gatewayd.protocol.session import DeviceInfo
from gatewayd.status.board import StatusBoard, Unwell

log = structlog.get_logger()

_OK = "ok"


@dataclass(frozen=True, slots=True)
class LinkHealth:
    """The state of a device's link at its last use: `ok`, `unknown` (never used) or a failure's code."""

    code: str = "unknown"
    reason: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the device was reached when the link was last used."""
        return self.code == _OK


class StatusFeed:
    """Translates events of jobs and the planner into statuses on the board."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board
        self._unreachable: dict[str, GatewaydError] = {}
        self._links: dict[str, LinkHealth] = {}
        self._pauses: dict[str, tuple[Pause, str] | None] = {}
        self._moved: dict[str, str] = {}

    def link_health(self, name: str) -> LinkHealth:
        """Return the state of a device's link at its last use."""
        return self._links.get(name, LinkHealth())

    # -- from attempts and the scheduler
    # ---------------------------------------------------------------------

    def job_moved(self, job: Job) -> None:
        """See `delivery.dependencies.Watcher`."""
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
        if meaning(job.code).is_about_link:
            self._links[job.device] = LinkHealth(job.code, job.reason)

    def progressed(self, job: Job, progress: TransferProgress) -> None:
        """See `delivery.dependencies.Watcher`."""
        self._board.update(
            job.device,
            progress=_percent(progress.received, job.image_size),
            bytes_per_s=progress.bytes_per_s,
            received_bytes=progress.received,
            resumes=job.resumes + progress.resumes,
        )

    def device_seen(self, device: Device, info: DeviceInfo) -> None:
        """See `delivery.dependencies.Watcher`."""
        self._unreachable.pop(device.name, None)
        self._links[device.name] = LinkHealth(_OK)
        if info.version is not None:
            self._board.update(device.name, installed_version=info.version)

    def line_contested(self, device: Device, reason: str) -> None:
        """See `delivery.dependencies.Watcher`."""
        self._links[device.name] = LinkHealth(Code.PORT_CONTESTED, f"{device.link.address}: {reason}")

    def unreachable(self, device: Device, error: GatewaydError) -> None:
        """Note that a device could not be identified; the next plan shows it, if nothing matters more."""
        self._unreachable[device.name] = error
        self._links[device.name] = LinkHealth(error.code, with_address(device, error))

    # -- from the planner
    # --------------------------------------------------------------------------------------

    def planned(self, plan: Plan, known: StoreSnapshot, devices: Sequence[Device]) -> None:
        """Show the planner's decision for each device, and forget devices that are no longer configured."""
        configured = {device.name: device for device in devices}
        for status in self._board.all():
            if status.name not in configured:
                self._board.remove(status.name)
        elsewhere = answering_elsewhere(devices, known.devices)
        jobs: dict[str, Job] = {}
        for job in known.jobs:
            jobs[job.device] = job
        for decision in plan.decisions:
            device = configured[decision.device]
            record = known.devices.get(decision.device, DeviceRecord(decision.device))
            self._pauses[device.name] = pause_of(known.pauses, device.name)
            last = jobs.get(decision.device)
            if device.name in elsewhere and not (last is not None and last.is_active):
                self._show_elsewhere(device, elsewhere[device.name])
            else:
                self._show(device, record, decision, last)

    def _show(self, device: Device, record: DeviceRecord, decision: Decision, last: Job | None) -> None:
        """Show a device's present state; a job that has ended, only while it still explains that state."""
        installed = str(installed_version(device, record))
        # A release that it need not get, such as its image under a higher patch, would be an update for ever.
        is_nothing_new = decision.code == Code.NOT_NEWER
        is_nothing_new |= decision.code == Code.UP_TO_DATE
        self._board.update(
            device.name,
            app_id=device.app_id,
            installed_version=installed,
            latest_version=installed if is_nothing_new else decision.version or installed,
            refused_version=(decision.version or None) if decision.refused else None,
            refused_reason=f"{decision.code}: {decision.reason}" if decision.refused else None,
        )
        if last is not None and last.is_active:
            status = self._board.get(device.name)
            if last.state in WAITING or status is None or status.job != last.id:
                self.job_moved(last)  # otherwise it is running, and reports its own status
        elif last is not None and is_of_its_board(last, record) and _is_told_by(last, decision):
            self.job_moved(last)
        elif decision.refused:
            self._settle(device, str(Unwell.REFUSED), decision.code, decision.reason)
        elif device.name in self._unreachable:
            error = self._unreachable[device.name]
            self._settle(device, str(Unwell.UNREACHABLE), error.code, with_address(device, error))
        else:
            state = "idle" if record.contact_seq else "unknown"
            self._settle(device, state, decision.code, decision.reason)

    def _show_elsewhere(self, device: Device, elsewhere: Elsewhere) -> None:
        """Show that nothing is known of the board at this link: the one that answered here moved on."""
        if elsewhere.name != self._moved.get(device.name):
            log.warning("one board under two names", device=device.name, reason=elsewhere.reason)
        self._moved[device.name] = elsewhere.name
        believed = str(device.version)
        self._board.update(
            device.name, app_id=device.app_id, installed_version=believed, latest_version=believed
        )
        self._settle(device, "unknown", "same_board", elsewhere.reason)

    def _settle(self, device: Device, state: str, code: str, reason: str) -> None:
        nothing = dict.fromkeys(
            ("job", "attempt", "progress", "bytes_per_s", "received_bytes", "image_bytes", "resumes")
        )
        self._put(device.name, state=state, code=code, reason=reason, **nothing)

    def _put(self, name: str, *, state: str, code: str | None, reason: str | None, **more: Any) -> None:
        """Show a state; for a paused device, unless it is activating, show the pause instead."""
        pause = None if state == JobState.ACTIVATING else self._pauses.get(name)
        if pause is not None:
            who, way_out = pause
            code, reason = "paused", f"paused by {who.by} on {who.since} ({way_out})"
        self._board.update(name, state=state, code=code, reason=reason, paused=pause is not None, **more)


def _is_told_by(ended: Job, decision: Decision) -> bool:
    """Whether this job's result is the reason for the planner's decision."""
    if ended.state is JobState.SUCCEEDED:
        return decision.code == Code.UP_TO_DATE
    failed = ended.state is JobState.FAILED and ended.release_id == decision.release_id
    return failed and decision.refused and decision.code == ended.code


def _percent(part: int, whole: int) -> int | None:
    return part * 100 // whole if whole else None
