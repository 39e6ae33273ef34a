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
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from gatewayd.codes import Code, Contact, meaning
from gatewayd.config import Device, Settings, Wake
from gatewayd.delivery.admission import (
    check_can_revert,
    check_is_newer,
    check_is_not_rolled_back,
    check_port_is_not_shared,
)
from gatewayd.delivery.attempt_log import AttemptLog
from gatewayd.delivery.console import ConsoleLog
from gatewayd.delivery.deferral import Deferral, Paused
from gatewayd.delivery.progress import TransferProgress
from gatewayd.delivery.pump import Pump
from gatewayd.delivery.retry import Retry
from gatewayd.errors import DeviceError, GatewaydError, LinkError, LinkLost
from gatewayd.images.reader import FirmwareReader, OpenFirmware
from gatewayd.jobs.eligibility import check_is_begun_with, check_is_meant, profile_of
from gatewayd.jobs.marks import Marked, keys_of
from gatewayd.jobs.model import AttemptRecord, Job
from gatewayd.jobs.transitions import INTERRUPTIBLE, JobState
from gatewayd.link.base import Link
from gatewayd.ota.rules import RollbackMark
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.registry import PROTOCOLS
from gatewayd.protocol.session import (
    Activated,
    AlreadyRunning,
    Armed,
    Confirmed,
    Console,
    Deferred,
    DeviceInfo,
    Event,
    Failed,
    Identified,
    Image,
    Outcome,
    Progress,
    Staged,
    TransferSession,
    TransferStarted,
)
from gatewayd.protocol.steps import Step
from gatewayd.store.store import Store
from gatewayd.timestamps import utc_now

# A board that resets when its port is opened needs up to 3 s before it answers.
PATIENCE_S = 5.0
# A device that was just told to listen does.
WOKEN_PATIENCE_S = 2.0
# On top of the longest boot the device announces.
RESTART_MARGIN_S = 10.0
# Between two HELLOs to a device that acknowledged ACTIVATE and has not restarted yet.
RESTART_POLL_S = 0.2
# Before a radio is asked again for a device that restarts: its stack, and ours, need a moment.
RECONNECT_POLL_S = 1.0
# Steps of one attempt: transfer, confirm, succeed; with room for a second look, none for a loop.
STEPS_PER_ATTEMPT = 6


class Watcher(Protocol):
    """Notified of each event of an attempt; its methods return without waiting."""

    def job_moved(self, job: Job) -> None:
        """A job changed state or facts."""

    def progressed(self, job: Job, progress: TransferProgress) -> None:
        """Bytes arrived at the device; called a few times a second."""

    def device_seen(self, device: Device, info: DeviceInfo) -> None:
        """A device was identified."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What an attempt needs; created once by the daemon, faked in tests."""

    store: Store
    firmware: FirmwareReader
    watcher: Watcher
    make_link: Callable[[Device], Link]
    make_session: Callable[[Device], TransferSession]
    clock: Callable[[], float]


class Attempt:
    """One attempt for one device, over one opening of its link; while `is_held` nothing is sent to it."""

    def __init__(
        self,
        ends: Dependencies,
        settings: Settings,
        device: Device,
        job: Job | None = None,
        *,
        is_held: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ends = ends
        self._settings = settings
        self._device = device
        self._is_held = is_held
        self.job = job
        self.log = structlog.get_logger().bind(device=device.name, **({"job": job.id} if job else {}))
        self._console = ConsoleLog(self.log)
        self._attempt_log = AttemptLog(ends.clock(), utc_now(), job.durable if job else 0)
        self._session: TransferSession | None = None
        self._opened: OpenFirmware | None = None  # held, so that other devices find it in memory
        self._talk: Pump
        self._link: Link

    @property
    def durable(self) -> int:
        """The furthest the device ever got, in bytes of this job's image."""
        return self._attempt_log.durable

    @property
    def overdue_s(self) -> float:
        """How long ago it should have done something, and has not."""
        due = None if self._session is None else self._talk.due
        return 0.0 if due is None else max(0.0, self._ends.clock() - due)

    def standing(self) -> AttemptRecord:
        """What it has moved so far."""
        return self._attempt_log.record(self._ends.clock(), self._session)

    async def probe(self) -> None:
        """Ask the device who it is, and remember it. Raises GatewaydError, Deferral."""
        async with self._conversation():
            await self._meet()

    async def run(self) -> Job:
        """Lead the job as far as it goes; returns it succeeded. Raises GatewaydError, Deferral, Paused."""
        if self._the_job.state in INTERRUPTIBLE:
            await self._go(JobState.QUEUED)
        async with self._conversation():
            info = await self._meet()
            for _ in range(STEPS_PER_ATTEMPT):
                step = self._talk.session.next_step(self._the_job.update)
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
        self.job = await self._ends.store.run(lambda db: db.interrupt_job(job.id, note=note, **changes))
        self._ends.watcher.job_moved(self._the_job)
        return self._the_job

    # -- steps

    async def _take(self, step: Step, info: DeviceInfo) -> DeviceInfo:
        """Take a step that is not the last; returns what the device says then."""
        job = self._the_job
        match step:
            case Step.TRANSFER:
                return await self._update(info, second_try=False)
            case Step.SECOND_TRY:
                return await self._update(info, second_try=True)
            case Step.RESTART:
                return await self._restart(info)
            case Step.AWAIT_RESTART:
                return await self._await_restart(info)
            case Step.CONFIRM:
                return await self._confirm(info)
            case Step.AWAIT_TRIAL_END:
                raise DeviceError(
                    "the device runs another image on trial, whose predecessor it still needs",
                    code="on_trial",
                    hint="it is confirmed or reverted by itself, then this goes on",
                )
            case Step.FAIL_VERSION:
                raise DeviceError(
                    f"the device reports version {info.version}, expected {job.version}",
                    code="version_mismatch",
                )
            case _:
                raise DeviceError(
                    f"{job.version} was started and the bootloader gave it up; {info.version} runs again",
                    code="reverted",
                    hint="this image is not tried again; publish a repaired one",
                )

    async def _update(self, info: DeviceInfo, *, second_try: bool) -> DeviceInfo:
        """Transfer, activate, and return what the device says after its restart. Raises Paused."""
        if self._is_held():
            raise Paused
        installed = check_is_newer(self._device, info, self._the_job.version)
        check_can_revert(self._device, info)
        await self._check_mark(info)
        image = await self._image(info, second_try=second_try)
        await self._go(
            JobState.TRANSFERRING,
            self._attempt_log.record(self._talk.now, self._session),
            from_version=str(installed),
            image_sha256=image.sha256.hex(),
            image_size=len(image.content),
            image_id=str(image.own_id or ""),
            is_armed=False,
            boot_id=info.boot_id,
            device_id=info.device_id,
            peer=self._link.peer,
            second_try=second_try,
            attempt=self._the_job.attempt + 1,
            code="",
            reason="",
        )
        self._talk.session.transfer(image, self._talk.now)
        outcome = await self._outcome(Staged, AlreadyRunning)
        if isinstance(outcome, AlreadyRunning):
            return await self._identify(PATIENCE_S)
        repeated = self._talk.session.traffic.image_bytes_repeated
        self.log.info(
            "staged", size=len(image.content), seconds=round(self._attempt_log.seconds, 3), repeated=repeated
        )
        await self._go(JobState.STAGED, durable=len(image.content))
        await self._go(JobState.ACTIVATING, boot_id=outcome.info.boot_id, activated_at=utc_now())
        if self._talk.session.arms_first:
            self._talk.session.arm(self._talk.now)
            await self._outcome(Armed)
            await self._go(JobState.ACTIVATING, is_armed=True)
        return await self._restart(outcome.info)

    async def _restart(self, info: DeviceInfo) -> DeviceInfo:
        """Let the device start the image, now that this is stored; returns what it says then."""
        self._talk.session.activate(self._device.trial_s, self._talk.now)
        activated = await self._outcome(Activated)
        self.log.info("activated", version=self._the_job.version, acknowledged=activated.acknowledged)
        await asyncio.sleep(activated.quiet_s)
        return await self._await_restart(info)

    async def _await_restart(self, info: DeviceInfo) -> DeviceInfo:
        deadline = self._talk.now + info.boot_limit_s + RESTART_MARGIN_S
        while True:
            info = await self._greet_again(deadline)
            if self._talk.session.has_restarted(self._the_job.update):
                return info
            if self._talk.now >= deadline:
                raise DeviceError(
                    "the device was told to activate the image and did not restart", code="activate_ignored"
                )
            await asyncio.sleep(RESTART_POLL_S)

    async def _greet_again(self, deadline: float) -> DeviceInfo:
        """Greet a device that restarts; a link that goes down with it is opened again until the deadline."""
        while True:
            try:
                return await self._greet(max(deadline - self._talk.now, PATIENCE_S))
            except LinkLost:
                if not self._talk.vanishes_with_device:
                    raise
            except DeviceError as error:
                self._pass_over(error)
            await self._reconnect(deadline)

    async def _reconnect(self, deadline: float) -> None:
        while True:
            await asyncio.sleep(RECONNECT_POLL_S)
            try:
                check_port_is_not_shared(self._settings, self._device)  # it may come back under another name
                return await self._reopen()
            except LinkError:
                if self._talk.now >= deadline:
                    raise

    async def _confirm(self, info: DeviceInfo) -> DeviceInfo:
        job = self._the_job
        own_id = ImageId.parse(job.image_id) if job.image_id else None
        image = Image(b"", bytes.fromhex(job.image_sha256), job.version, own_id=own_id)
        self._talk.session.confirm(image, self._talk.now)
        await self._outcome(Confirmed)
        self.log.info("confirmed", version=info.version)
        return await self._identify(PATIENCE_S)

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
        self.job = await self._ends.store.run(
            lambda db: db.succeed(
                job.id, mark, attempt, boards=boards, lowers=lowers, resumes=resumes, **changes
            )
        )
        self._ends.watcher.job_moved(self._the_job)
        self.log.info("succeeded", version=info.version, code=changes["code"] or None)
        return self._the_job

    # -- parts

    def _conversation(self) -> Pump:
        """Make what talks to the device. Raises LinkError `port_shared`."""
        check_port_is_not_shared(self._settings, self._device)
        self._session = self._ends.make_session(self._device)
        self._link = self._ends.make_link(self._device)
        self._expect()
        self._talk = Pump(self._link, self._session, clock=self._ends.clock, on_notice=self._notice)
        return self._talk

    async def _reopen(self) -> None:
        self._session = self._ends.make_session(self._device)
        self._expect()
        await self._talk.reopen(self._session)

    def _expect(self) -> None:
        """Tell the link which of several devices the job began with.

        At another address only its id, or the image that it was told to start, can show that it is the one.
        """
        if self.job is not None:
            can_tell = self.job.device_id is not None or self.job.state is JobState.ACTIVATING
            self._link.expect(self.job.peer, only=not can_tell)

    async def _meet(self) -> DeviceInfo:
        """Greet the device; pass over others that fit what the configuration says of its link."""
        while True:
            try:
                return await self._greet()
            except DeviceError as error:
                self._pass_over(error)
                stranger = error
            try:
                await self._reopen()
            except LinkError as error:
                is_begun = stranger.code == Code.DEVICE_CHANGED
                raise (stranger if error.code == Code.NOT_HEARD and not is_begun else error) from None

    def _pass_over(self, error: DeviceError) -> None:
        """Leave a device aside that is not the one; raise `error` when it is, or there is no other."""
        if meaning(error.code).contact is not Contact.STRANGER or not self._link.pass_over():
            raise error
        self.log.info("passed over another device", code=error.code, reason=str(error))

    async def _greet(self, patience_s: float = PATIENCE_S) -> DeviceInfo:
        """Wake the device if it must be woken, and identify it.

        One that is awake already does not answer the wake-up.
        """
        exchange = self._device.link.wake
        if not isinstance(exchange, Wake):
            return await self._identify(patience_s)
        asleep: LinkError | None = None
        deadline = self._talk.now + patience_s
        while True:
            try:
                await self._talk.wake(exchange)
            except LinkLost:
                raise
            except LinkError as error:
                asleep = error
            try:
                return await self._identify(WOKEN_PATIENCE_S)
            except LinkError as error:
                if not meaning(error.code).is_silence or self._talk.now >= deadline:
                    raise asleep or error from None

    async def _identify(self, patience_s: float) -> DeviceInfo:
        self._talk.session.identify(self._talk.now, patience_s)
        info: DeviceInfo = (await self._outcome(Identified)).info
        device = self._device
        check_is_meant(self._settings, device, info)
        if self.job is not None:
            check_is_begun_with(device, self.job, info, self._link.peer)
        await self._ends.store.run(lambda db: db.save_contact(device.name, info))
        self._ends.watcher.device_seen(device, info)
        return info

    async def _check_mark(self, info: DeviceInfo) -> None:
        """Compare with the mark of the board that is there: the planner may have had another one in mind."""
        check_is_not_rolled_back(self._settings, self._device, info, self._the_job, await self._marked())

    async def _marked(self) -> Marked:
        return await self._ends.store.run(
            lambda db: Marked(db.devices(), db.marks(), db.verdicts(), db.jobs())
        )

    async def _image(self, info: DeviceInfo, *, second_try: bool) -> Image:
        job = self._the_job
        keys = self._settings.keys_of(self._device)
        reading = profile_of(self._settings, self._device)
        self._opened = await self._ends.firmware.open(job.message_sha256, reading, keys)
        content, sha256 = self._opened.image(self._device, info.slot_address)
        name = PROTOCOLS[self._device.protocol].name_image(content, sha256, job.version)
        own_id = None if name == ImageId.of_file(sha256) else name
        return Image(content, sha256, job.version, second_try, own_id)

    async def _outcome(self, *wanted: type[Any]) -> Any:
        outcome: Outcome = await self._talk.outcome()
        if isinstance(outcome, Failed):
            error = outcome.error
            if meaning(error.code).is_silence:
                error.hint = "; ".join(filter(None, (error.hint, self._link.silence_hint)))
            raise error
        if isinstance(outcome, Deferred):
            raise Deferral(outcome.seconds, outcome.reason)
        if not isinstance(outcome, wanted):
            raise DeviceError(f"the session ended with {outcome}, expected {wanted}", code="internal")
        return outcome

    def _ended(self, code: str, reason: str) -> AttemptRecord:
        """Sum this attempt up, now that it is over."""
        now = self._ends.clock()
        return self._attempt_log.record(now, self._session, ended_at=utc_now(), code=code, reason=reason)

    async def _go(self, state: JobState, note: AttemptRecord | None = None, **changes: Any) -> None:
        """Move the job, or change it where it stands; note the attempt with it."""
        job = self._the_job
        if state is job.state:
            self.job = await self._ends.store.run(lambda db: db.update_job(job.id, note=note, **changes))
        else:
            self.job = await self._ends.store.run(lambda db: db.move_job(job.id, state, note=note, **changes))
        self._ends.watcher.job_moved(self._the_job)

    @property
    def _the_job(self) -> Job:
        if self.job is None:
            raise RuntimeError("a probe has no job")
        return self.job

    def _notice(self, event: Event) -> None:
        if isinstance(event, Console):
            self._console.add(event.text, self._talk.now)
        elif isinstance(event, TransferStarted):
            self._attempt_log.started(event, self._talk.now)
            self.log.info("transfer", offset=event.offset, size=event.size)
        elif isinstance(event, Progress):
            rate = self._attempt_log.progressed(event, self._talk.now)
            if rate is not None:
                progress = TransferProgress(event.received, rate, self._attempt_log.resumes)
                self._ends.watcher.progressed(self._the_job, progress)


def with_address(device: Device, error: GatewaydError) -> str:
    """Return the error as text that names the port or address."""
    text, address = str(error), device.link.address
    return text if address in text else f"{address}: {text}"
