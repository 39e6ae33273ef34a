"""One attempt at one job, from opening the link to its outcome; it leads an update's whole life.

Theory of operation. An attempt opens the link, identifies the device, and then repeats: ask the protocol for
the next step (`TransferSession.next_step`), and take it. The steps follow from what the device answers now
and from what the store holds about the job, never from how far an earlier attempt got. The normal course,
with the job's states:

    queued         identify; check that the device is the right one, and may take the image
    transferring   transfer: the device says at which offset to resume
    staged         the device holds the whole image and has verified it
    activating     stored first; then (arm and) activate; wait for the restart; identify
    succeeded      the device runs the image: confirm it, identify again, store success and rollback mark

Idempotent: everything up to `activating`. A power cut, a lost link, a pause or a restart of gatewayd can come
at any point; the next attempt identifies the device again and asks for the next step. Each state is stored
before the device may act on it.

Awkward: from `activating` on, the device may run the new image, although it never acknowledged. So the job
cannot be cancelled any more, and only the device can say what happened: it restarted into the image,
reverted, or ignored the command. `boot_id`, stored before activation, tells a restart from an answer of the
old boot. A link that goes down with the device (Bluetooth, native USB) is opened again until a deadline; any
other lost link ends the attempt.

An attempt ends in success, GatewaydError (a failure that counts), Deferral (the device wants to be left
alone) or Paused (a person does). The caller stores a failure with `record`, and the others with `put_off` and
`hold_back`. An attempt without a job only identifies the device (`probe`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from gatewayd.config import Device, Settings
from gatewayd.delivery.admission import check_can_revert, check_is_newer, check_is_not_rolled_back
from gatewayd.delivery.attempt_log import AttemptLog
from gatewayd.delivery.console import ConsoleLog
from gatewayd.delivery.contact import PATIENCE_S, DeviceContact
from gatewayd.delivery.deferral import Deferral, Paused
from gatewayd.delivery.dependencies import Dependencies
from gatewayd.delivery.progress import TransferProgress
from gatewayd.delivery.retry import Retry
from gatewayd.delivery.verdicts import failure_of
from gatewayd.errors import DeviceError, GatewaydError
from gatewayd.jobs.eligibility import profile_of
from gatewayd.jobs.model import AttemptRecord, Job
from gatewayd.jobs.rollback_marks import Marked, keys_of
from gatewayd.jobs.transitions import INTERRUPTIBLE, JobState
from gatewayd.ota.rules import RollbackMark
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.registry import PROTOCOLS
from gatewayd.protocol.session import (
    Activated,
    AlreadyRunning,
    Armed,
    Confirmed,
    Console,
    DeviceInfo,
    Event,
    Image,
    Progress,
    Staged,
    TransferSession,
    TransferStarted,
)
from gatewayd.protocol.steps import Step
from gatewayd.timestamps import utc_now

if TYPE_CHECKING:
    from gatewayd.images.reader import OpenFirmware

# On top of the longest boot the device announces.
RESTART_MARGIN_S = 10.0
# Between two HELLOs to a device that acknowledged ACTIVATE and has not restarted yet.
RESTART_POLL_S = 0.2
# Steps of one attempt: transfer, confirm, succeed; with room for a second look, none for a loop.
STEPS_PER_ATTEMPT = 6


class Attempt:
    """One attempt for one device, over one opening of its link; while `is_held` nothing is sent to it."""

    def __init__(
        self,
        deps: Dependencies,
        settings: Settings,
        device: Device,
        job: Job | None = None,
        *,
        is_held: Callable[[], bool] = lambda: False,
    ) -> None:
        self._deps = deps
        self._settings = settings
        self._device = device
        self._is_held = is_held
        self.job = job
        self.log = structlog.get_logger().bind(device=device.name, **({"job": job.id} if job else {}))
        self._console = ConsoleLog(self.log, deps.console.of(device.name))
        self._attempt_log = AttemptLog(deps.clock(), utc_now(), job.durable if job else 0)
        self._contact = DeviceContact(
            deps, settings, device, job=lambda: self.job, log=self.log, on_notice=self._notice
        )
        self._opened: OpenFirmware | None = None  # held, so that other devices find it in memory

    @property
    def durable(self) -> int:
        """The furthest the device ever got, in bytes of this job's image."""
        return self._attempt_log.durable

    @property
    def volatile(self) -> int:
        """The furthest the device got in this attempt, if it forgets its place without power; else 0."""
        return self._attempt_log.volatile

    @property
    def overdue_s(self) -> float:
        """How long ago it should have done something, and has not."""
        due = self._contact.due
        return 0.0 if due is None else max(0.0, self._deps.clock() - due)

    def standing(self) -> AttemptRecord:
        """What it has moved so far."""
        return self._attempt_log.record(self._deps.clock(), self._contact.session)

    async def probe(self) -> None:
        """Ask the device who it is, and remember it. Raises GatewaydError, Deferral."""
        async with self._contact.open():
            await self._contact.make()

    async def deliver(self) -> Job:
        """Lead the job as far as it goes; returns it succeeded. Raises GatewaydError, Deferral, Paused."""
        if self._the_job.state in INTERRUPTIBLE:
            await self._go(JobState.QUEUED)
        async with self._contact.open():
            await self._contact.stay_quiet()
            info = await self._contact.make()
            for _ in range(STEPS_PER_ATTEMPT):
                step = self._session.next_step(self._the_job.update)
                self.log.debug("next step", step=str(step))
                if step is Step.SUCCEED:
                    return await self._succeed(info)
                info = await self._take(step, info)
        raise DeviceError(
            f"{self._device.name} does not settle: it still says {info.image_state.name.lower()} after"
            f" {STEPS_PER_ATTEMPT} steps",
            code="not_confirmed",
        )

    async def record(self, retry: Retry, error: GatewaydError) -> Job:
        """Store what becomes of the job after a failed attempt. Raises HostError."""
        job, reason = self._the_job, with_address(self._device, error)
        changes: dict[str, Any] = {
            "failures": retry.failures,
            "code": error.code,
            "reason": reason,
            "durable": max(job.durable, self.durable),
            "resumes": job.resumes + self._attempt_log.resumes,
        }
        await self._go(retry.state, self._ended(error.code, reason), **changes)
        level = self.log.error if retry.state is JobState.FAILED else self.log.warning
        if replace(job, **changes) == self._the_job:
            level = self.log.debug  # the same in vain once more, which may go on for years
        level(
            "job failed" if retry.state is JobState.FAILED else "attempt failed",
            code=error.code,
            reason=reason,
            failures=retry.failures,
            retry_in_s=round(retry.delay_s, 1),
        )
        return self._the_job

    async def put_off(self, deferral: Deferral) -> Job:
        """Store that the device asked to be left alone. Raises HostError."""
        reason = f"the device asks to be left alone for {deferral.seconds} s (reason {deferral.reason})"
        await self.interrupted("not_now", reason)
        self.log.info("put off", seconds=deferral.seconds)
        return self._the_job

    async def hold_back(self) -> Job:
        """Store that the device did not start the image, and gets it again when it may. Raises HostError."""
        reason = "the device did not start the image, and is sent nothing while it is paused"
        note = self._ended("paused", reason)
        await self._go(JobState.QUEUED, note, code="paused", reason=reason)
        return self._the_job

    async def interrupted(self, code: str, reason: str) -> Job:
        """Store that the attempt ended early through nobody's fault; the job waits. Raises HostError."""
        job = self._the_job
        changes = {
            "code": code,
            "reason": reason,
            "durable": max(job.durable, self.durable),
            "resumes": job.resumes + self._attempt_log.resumes,
        }
        note = self._ended(code, reason)
        self.job = await self._deps.store.run(lambda db: db.interrupt_job(job.id, note=note, **changes))
        self._deps.watcher.job_moved(self._the_job)
        return self._the_job

    # -- steps

    async def _take(self, step: Step, info: DeviceInfo) -> DeviceInfo:
        """Take a step that is not the last; returns what the device says then."""
        job = self._the_job
        match step:
            case Step.TRANSFER:
                return await self._update(info, second_try=job.retry_reverted)
            case Step.SECOND_TRY:
                return await self._update(info, second_try=True)
            case Step.RESTART:
                return await self._restart(info)
            case Step.AWAIT_RESTART:
                return await self._await_restart(info)
            case Step.CONFIRM:
                return await self._confirm(info)
            case _:
                raise failure_of(step, info, job.version, self._device.name)

    async def _update(self, info: DeviceInfo, *, second_try: bool) -> DeviceInfo:
        """Transfer, activate, and return what the device says after its restart. Raises Paused."""
        if self._is_held():
            raise Paused
        installed = check_is_newer(self._device, info, self._the_job)
        check_can_revert(self._device, info)
        if info.can_revert is None and not self._device.allow_no_trial:
            self.log.warning("whether the bootloader can go back is not known", version=self._the_job.version)
        await self._check_mark(info)
        image = await self._image(info, second_try=second_try)
        await self._go(
            JobState.TRANSFERRING,
            self._attempt_log.record(self._now, self._contact.session),
            from_version=str(installed),
            image_sha256=image.sha256.hex(),
            image_size=len(image.content),
            image_id=str(image.own_id or ""),
            is_armed=False,
            boot_id=info.boot_id,
            device_id=info.device_id,
            peer=self._contact.peer,
            second_try=second_try,
            attempt=self._the_job.attempt + 1,
            code="",
            reason="",
        )
        self._session.transfer(image, self._now)
        outcome = await self._contact.outcome(Staged, AlreadyRunning)
        if isinstance(outcome, AlreadyRunning):
            return await self._contact.identify(PATIENCE_S)
        repeated = self._session.traffic.image_bytes_repeated
        self.log.info(
            "staged", size=len(image.content), seconds=round(self._attempt_log.seconds, 3), repeated=repeated
        )
        await self._go(JobState.STAGED, durable=len(image.content))
        await self._go(JobState.ACTIVATING, boot_id=outcome.info.boot_id, activated_at=utc_now())
        if self._session.arms_first:
            self._session.arm(self._now)
            await self._contact.outcome(Armed)
            await self._go(JobState.ACTIVATING, is_armed=True)
        return await self._restart(outcome.info)

    async def _restart(self, info: DeviceInfo) -> DeviceInfo:
        """Let the device start the image, now that this is stored; returns what it says then."""
        self._session.activate(self._device.trial_s, self._now)
        activated = await self._contact.outcome(Activated)
        self.log.info("activated", version=self._the_job.version, acknowledged=activated.acknowledged)
        await asyncio.sleep(activated.quiet_s)
        return await self._await_restart(info)

    async def _await_restart(self, info: DeviceInfo) -> DeviceInfo:
        deadline = self._now + info.boot_limit_s + RESTART_MARGIN_S
        while True:
            info = await self._contact.renew(deadline)
            if self._session.has_restarted(self._the_job.update):
                return info
            if self._now >= deadline:
                raise DeviceError(
                    "the device was told to activate the image and did not restart", code="activate_ignored"
                )
            await asyncio.sleep(RESTART_POLL_S)

    async def _confirm(self, info: DeviceInfo) -> DeviceInfo:
        job = self._the_job
        own_id = ImageId.parse(job.image_id) if job.image_id else None
        image = Image(b"", bytes.fromhex(job.image_sha256), job.version, own_id=own_id)
        self._session.confirm(image, self._now)
        await self._contact.outcome(Confirmed)
        self.log.info("confirmed", version=info.version)
        return await self._contact.identify(PATIENCE_S)

    async def _succeed(self, info: DeviceInfo) -> Job:
        job = self._the_job
        mark = None
        if job.timestamp_ms is not None:
            mark = RollbackMark(job.timestamp_ms, bytes.fromhex(job.container_sha256))
        changes = {"code": "", "reason": ""}
        if info.version not in (None, job.version):
            changes["code"] = "version_differs"
            changes["reason"] = (
                f"the device runs the image sent and calls it {info.version}, not {job.version}"
            )
        attempt = self._ended("", "")
        boards, lowers = keys_of(self._device, info), self._device.allow_downgrade
        resumes = job.resumes + self._attempt_log.resumes
        self.job = await self._deps.store.run(
            lambda db: db.succeed(
                job.id, mark, attempt, boards=boards, lowers=lowers, resumes=resumes, **changes
            )
        )
        self._deps.watcher.job_moved(self._the_job)
        self.log.info("succeeded", version=info.version, code=changes["code"] or None)
        return self._the_job

    # -- parts

    async def _check_mark(self, info: DeviceInfo) -> None:
        """Compare with the mark of the board that is there: the planner may have had another one in mind."""
        check_is_not_rolled_back(self._settings, self._device, info, self._the_job, await self._marked())

    async def _marked(self) -> Marked:
        return await self._deps.store.run(
            lambda db: Marked(db.devices(), db.marks(), db.verdicts(), db.jobs())
        )

    async def _image(self, info: DeviceInfo, *, second_try: bool) -> Image:
        job = self._the_job
        keys = self._settings.keys_of(self._device)
        reading = profile_of(self._settings, self._device)
        self._opened = await self._deps.firmware.open(job.message_sha256, reading, keys)
        content, sha256 = self._opened.image(self._device, info.slot_address)
        name = PROTOCOLS[self._device.protocol].name_image(content, sha256, job.version)
        own_id = None if name == ImageId.of_file(sha256) else name
        return Image(content, sha256, job.version, second_try, own_id)

    def _ended(self, code: str, reason: str) -> AttemptRecord:
        """Sum this attempt up, now that it is over."""
        now = self._deps.clock()
        return self._attempt_log.record(
            now, self._contact.session, ended_at=utc_now(), code=code, reason=reason
        )

    async def _go(self, state: JobState, note: AttemptRecord | None = None, **changes: Any) -> None:
        """Move the job, or change it where it stands; note the attempt with it."""
        job = self._the_job
        if state is job.state:
            self.job = await self._deps.store.run(lambda db: db.update_job(job.id, note=note, **changes))
        else:
            self.job = await self._deps.store.run(lambda db: db.move_job(job.id, state, note=note, **changes))
        self._deps.watcher.job_moved(self._the_job)

    @property
    def _session(self) -> TransferSession:
        if self._contact.session is None:
            raise RuntimeError("the link was not opened")
        return self._contact.session

    @property
    def _now(self) -> float:
        return self._deps.clock()

    @property
    def _the_job(self) -> Job:
        if self.job is None:
            raise RuntimeError("a probe has no job")
        return self.job

    def _notice(self, event: Event) -> None:
        if isinstance(event, Console):
            self._console.add(event.text, self._now)
        elif isinstance(event, TransferStarted):
            self._attempt_log.started(event, self._now)
            self.log.info("transfer", offset=event.offset, size=event.size)
        elif isinstance(event, Progress):
            rate = self._attempt_log.progressed(event, self._now)
            if rate is not None:
                progress = TransferProgress(event.received, rate, self._attempt_log.resumes)
                self._deps.watcher.progressed(self._the_job, progress)


def with_address(device: Device, error: GatewaydError) -> str:
    """Return the error as text that names the port or address."""
    text, address = str(error), device.link.address
    return text if address in text else f"{address}: {text}"
