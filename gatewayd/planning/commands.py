"""What a person may do to updates: approve, cancel, retry, pause, resume, and push one by hand.

Every command is stored before it takes effect, so it survives a restart; then the planner runs again. It does
not run while a command is carried out, so the two never change one job at the same time. A command that
cannot be carried out raises RequestError and changes nothing.
"""

import asyncio
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from gatewayd.codes import Again, Code, meaning
from gatewayd.config import Device, Settings
from gatewayd.delivery.scheduler import Scheduler
from gatewayd.errors import FirmwareError, RequestError
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.eligibility import installed_version, push_topic
from gatewayd.jobs.model import EVERYTHING, DeviceRecord, EndJob, Job, pause_of
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.file_kinds import is_container, refuse_keys, refuse_nesting
from gatewayd.ota.patch import encode_patch
from gatewayd.ota.rules import Payload
from gatewayd.ota.topic import Channel, OtaTopic
from gatewayd.ota.version import Version
from gatewayd.planning.planner import StoreSnapshot
from gatewayd.planning.preview import Forecast, Preview, assessments, forecasts, with_message
from gatewayd.planning.reconciler import Reconciler
from gatewayd.protocol.registry import PROTOCOLS
from gatewayd.store.store import Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command: the device, its job as it is now, and a sentence."""

    device: str
    job: Job | None
    text: str


class Commands:
    """Carries out people's commands; `by` is the person's name, which is logged and stored."""

    def __init__(
        self, store: Store, firmware: FirmwareReader, scheduler: Scheduler, reconciler: Reconciler
    ) -> None:
        self._store = store
        self._firmware = firmware
        self._scheduler = scheduler
        self._reconciler = reconciler

    async def approve(self, target: str, by: str, *, version: str | None = None) -> CommandResult:
        """Let a job that is waiting for approval begin; `version`: only if it is for this one."""
        async with self._reconciler.between_passes():
            job = _active(await self._job_of(target), target)
            _check_on_offer(job, target, version)
            if job.state is not JobState.OFFERED:
                raise RequestError(
                    f"job {job.id} of {job.device} is not waiting for approval: it is {job.state}",
                    code="not_offered",
                )
            await self._store.run(lambda db: db.move_job(job.id, JobState.QUEUED))
        log.info("approved", device=job.device, job=job.id, version=job.version, by=by)
        return await self._outcome(job, f"job {job.id} ({job.version}) is approved")

    async def cancel(self, target: str, by: str) -> CommandResult:
        """Cancel an update; the same release is not tried again automatically."""
        async with self._reconciler.between_passes():
            job = _active(await self._job_of(target), target)
            reason = f"cancelled by {by}"
            if job.state is not JobState.ACTIVATING:
                await self._scheduler.cancel(job.id, "cancelled", reason)
            end = EndJob(job.id, JobState.CANCELLED, "cancelled", reason)
            if await self._store.run(lambda db: db.end_job(end)) is None:
                raise RequestError(
                    f"job {job.id} can no longer be cancelled: {job.device} was told to start {job.version}",
                    code="too_late",
                    hint="wait for the device to report",
                )
        log.info("cancelled", device=job.device, job=job.id, version=job.version, by=by)
        return await self._outcome(job, f"job {job.id} ({job.version}) is cancelled")

    async def retry(
        self, target: str, by: str, *, reverted: bool = False, version: str | None = None
    ) -> CommandResult:
        """Try again now: a job that is waiting, failed or was cancelled, or a device that did not answer.

        `reverted`: also an image that was given up, as often as the protocol allows. `version`: only if the
        job is for this one.
        """
        device = self._device_of(target, await self._jobs())
        async with self._reconciler.between_passes():
            known = await self._reconciler.known()
            if (pause := pause_of(known.pauses, device)) is not None:
                who, way_out = pause
                raise RequestError(f"{device} was paused by {who.by}", code="paused", hint=way_out)
            last = next((job for job in reversed(known.jobs) if job.device == device), None)
            _check_on_offer(last, device, version)
            again = last is not None and await self._permit(last, known.jobs, reverted=reverted)
        if last is not None and again:
            await self._reconciler.settled()
            return await self._tried_again(last, by)
        self._scheduler.run_now(device)
        log.info("retried now", device=device, job=last.id if last and last.is_active else None, by=by)
        if last is not None and last.is_active:
            return await self._outcome(last, f"job {last.id} ({last.version}) is tried now")
        return CommandResult(device, None, f"{device} is asked to identify itself; there is no job to retry")

    async def install(self, name: str, version: str, by: str) -> CommandResult:
        """Install what is on offer: approve it, try again what failed, or begin now what waits.

        Raises RequestError: `not_on_offer` for any other version, and what `retry` raises.
        """
        last = await self._job_of(self._device(name).name)
        _check_on_offer(last, name, version)
        if last is None or last.state is not JobState.OFFERED:
            result = await self.retry(name, by, version=version)
            if result.job is None or result.job.state is not JobState.OFFERED:
                return result
        return await self.approve(name, by, version=version)

    async def pause(self, names: Sequence[str], by: str) -> tuple[CommandResult, ...]:
        """Pause the named devices, or everything without a name; a transfer stops where it is."""
        devices = self._named(names)
        async with self._reconciler.between_passes():
            for name in names or (EVERYTHING,):
                await self._store.run(lambda db, name=name: db.pause(name, by))  # type: ignore[misc]
            await asyncio.gather(*(self._scheduler.pause(device, f"paused by {by}") for device in devices))
        log.info("paused", devices=list(names) or "all", by=by)
        await self._reconciler.settled()
        return tuple(CommandResult(device, None, f"{device} is paused") for device in devices)

    async def resume(self, names: Sequence[str], by: str) -> tuple[CommandResult, ...]:
        """Resume the named devices; without a name end the pause of everything, but not of single devices."""
        devices = self._named(names)
        async with self._reconciler.between_passes():
            for name in names or (EVERYTHING,):
                await self._store.run(lambda db, name=name: db.resume(name))  # type: ignore[misc]
            known = await self._reconciler.known()
            await self._forget_pauses(known, devices)
        log.info("resumed", devices=list(names) or "all", by=by)
        await self._reconciler.settled()
        return tuple(CommandResult(device, None, self._go_on(known, device)) for device in devices)

    async def push(
        self, name: str, version: Version, content: bytes, by: str, *, to_line: bool = False
    ) -> CommandResult:
        """Push firmware to one device without MQTT: the same checks, the same job.

        `to_line`: the step to the line of `version`, from what the device runs now, is ordered with it.

        Raises FirmwareError with the planner's code if no job would follow; then nothing is stored.
        """
        settings = self._reconciler.settings
        device = self._device(name)
        topic = OtaTopic(device.app_id, version.major, version.minor, Channel.NONE)
        refuse_keys(content, "the file")
        refuse_nesting(content, "the file")
        message = encode_patch(version.patch, device.patch_encoding) + content
        async with self._reconciler.between_passes():
            known = await self._reconciler.known()
            installed = installed_version(device, known.devices.get(name, DeviceRecord(name)))
            from_line = str(installed.line) if to_line else ""
            preview = await with_message(
                settings,
                known,
                self._firmware,
                topic=topic,
                topic_text=push_topic(name),
                message=message,
                from_line=from_line,
            )
            self._check_push(settings, preview, device)
            # Alone: a push replaces the one before, and pushing the same file again is a new push.
            await self._store.run(
                lambda db: db.add_release(topic, push_topic(name), message, alone=True, from_line=from_line)
            )
        ordered = {"from_line": from_line} if from_line else {}
        log.info("pushed", device=name, version=str(version), size_bytes=len(message), by=by, **ordered)
        await self._reconciler.settled()
        jobs = [job for job in await self._jobs() if job.device == name]
        job = jobs[-1]
        remark = ""
        if device.payload is Payload.STANDARD and is_container(content):
            remark = "; with payload: standard the device gets the whole container as its image"
        return CommandResult(name, job, f"job {job.id} ({job.version}) is {_standing(job)}{remark}")

    # -- helpers

    def _check_push(self, settings: Settings, preview: Preview, device: Device) -> None:
        name, release = device.name, preview.release
        answer: Forecast = next(one for one in forecasts(settings, preview) if one.device == name)
        if release is None:
            raise FirmwareError(f"{name}: the file is empty", code="empty_firmware")
        if answer.creates is not None and answer.creates.message_sha256 == release.sha256:
            return
        # A fault of the file itself says more than the fact that another release is preferred.
        found = next(one for one in assessments(settings, preview.known, device) if one.release == release)
        if found.code != Code.UPDATE:
            raise FirmwareError(f"{name}: {found.reason}", code=found.code)
        if answer.creates is not None:
            raise FirmwareError(
                f"{name} is due to get {answer.decision.version}: {answer.decision.reason}",
                code="superseded",
            )
        if answer.decision.code == Code.UPDATE:
            raise FirmwareError(
                f"{name}: {answer.decision.reason}",
                code="job_under_way",
                hint=f"wait for it, or `gatewayctl cancel {name}` first",
            )
        raise FirmwareError(f"{name}: {answer.decision.reason}", code=answer.decision.code)

    async def _forget_pauses(self, known: StoreSnapshot, devices: Sequence[str]) -> None:
        """Clear the reason of jobs that were stopped by a pause which is over."""
        for job in known.jobs:
            is_over = job.device in devices and pause_of(known.pauses, job.device) is None
            if is_over and job.is_active and job.code == Code.PAUSED:
                await self._store.run(lambda db, id_=job.id: db.update_job(id_, code="", reason=""))  # type: ignore[misc]

    def _go_on(self, known: StoreSnapshot, device: str) -> str:
        """Let a device continue, or say why it stays paused."""
        if device in known.pauses:
            return f"{device} stays paused by {known.pauses[device].by} (gatewayctl resume {device})"
        if EVERYTHING in known.pauses:
            return f"{device} stays paused with everything else (gatewayctl resume)"
        self._scheduler.run_now(device, ask=self._device(device).probe == "start")
        return f"{device} goes on"

    async def _permit(self, last: Job, jobs: Sequence[Job], *, reverted: bool) -> bool:
        """Return whether trying again needs a new job; if so, let the planner create it."""
        if last.state is JobState.OFFERED:
            raise RequestError(
                f"job {last.id} of {last.device} waits for approval",
                code="offered",
                hint=f"gatewayctl approve {last.device}",
            )
        if last.is_active and last.state not in (JobState.QUEUED, JobState.ACTIVATING):
            raise RequestError(
                f"job {last.id} of {last.device} is under way: {last.state}", code="job_under_way"
            )
        if last.state not in (JobState.FAILED, JobState.CANCELLED):
            return False
        if meaning(last.code).again is Again.NEVER:
            self._check_may_retry_reverted(last, jobs, is_ordered=reverted)
        await self._store.run(lambda db: db.allow_retry(last.id))
        return True

    def _check_may_retry_reverted(self, last: Job, jobs: Sequence[Job], *, is_ordered: bool) -> None:
        """Raise RequestError unless a person orders one more try, and the protocol has one."""
        if not is_ordered:
            raise RequestError(
                f"job {last.id} of {last.device} failed with {last.code}: {last.reason}",
                code=last.code,
                hint="publish a repaired image, or order one more try:"
                f" gatewayctl retry {last.device} --reverted",
            )
        kind = PROTOCOLS[self._device(last.device).protocol]
        image = last.device, last.device_id, last.message_sha256
        is_used_up = any(
            job.second_try and image == (job.device, job.device_id, job.message_sha256) for job in jobs
        )
        if kind.retries_reverted_once and is_used_up:
            raise RequestError(
                f"job {last.id} of {last.device} was the one more try that {kind.title} allows for an image",
                code=last.code,
                hint="publish a repaired image: one that differs in a byte counts as another",
            )

    async def _tried_again(self, last: Job, by: str) -> CommandResult:
        job = [one for one in await self._jobs() if one.device == last.device][-1]
        if job.id == last.id:
            known = await self._reconciler.known()
            answers = forecasts(self._reconciler.settings, Preview(known, None))
            answer = next(one for one in answers if one.device == last.device).decision
            raise RequestError(
                f"job {last.id} may be tried again, but {last.device} gets no update now: {answer.reason}",
                code=answer.code,
            )
        log.info("tried again", device=job.device, job=job.id, version=job.version, by=by)
        text = f"job {job.id} ({job.version}) replaces job {last.id}"
        if job.state is JobState.OFFERED:
            text += f" and waits for approval (gatewayctl approve {job.device})"
        return CommandResult(job.device, job, text)

    async def _outcome(self, job: Job, text: str) -> CommandResult:
        await self._reconciler.settled()
        return CommandResult(job.device, await self._store.run(lambda db: db.job(job.id)), text)

    async def _jobs(self) -> list[Job]:
        return await self._store.run(lambda db: db.jobs())

    async def _job_of(self, target: str) -> Job | None:
        """Return the last job of a device, or the job of that number; a device's name takes precedence."""
        jobs = await self._jobs()
        device = self._device_of(target, jobs)
        if device != target:
            return next(job for job in jobs if job.id == int(target))
        return next((job for job in reversed(jobs) if job.device == device), None)

    def _device_of(self, target: str, jobs: Sequence[Job]) -> str:
        """Return the device that a target names, by its own name or by the number of its last job."""
        if any(device.name == target for device in self._reconciler.settings.devices):
            return target
        if not target.isascii() or not target.isdecimal():
            return self._device(target).name
        job = next((job for job in jobs if job.id == int(target)), None)
        if job is None:
            raise RequestError(
                f"there is no job {target}", code="no_such_job", hint="gatewayctl jobs lists them"
            )
        newer = [one.id for one in jobs if one.device == job.device and one.id > job.id]
        if newer:
            raise RequestError(
                f"job {job.id} is not the last of {job.device}: that is job {newer[-1]}",
                code="not_the_last_job",
            )
        return self._device(job.device).name

    def _named(self, names: Sequence[str]) -> list[str]:
        if not names:
            return [device.name for device in self._reconciler.settings.devices]
        return [self._device(name).name for name in names]

    def _device(self, name: str) -> Device:
        return find_device(self._reconciler.settings, name)


def find_device(settings: Settings, name: str) -> Device:
    """Return a configured device. Raises RequestError `no_such_device`, with a similar name as a hint."""
    for device in settings.devices:
        if device.name == name:
            return device
    near = difflib.get_close_matches(name, [device.name for device in settings.devices], 1)
    hint = f"did you mean {near[0]}?" if near else "gatewayctl devices lists them"
    raise RequestError(
        f"there is no device {name[:80]!r} in the configuration", code="no_such_device", hint=hint
    )


def _active(job: Job | None, target: str) -> Job:
    if job is None or not job.is_active:
        ended = "" if job is None else f": job {job.id} is {job.state}"
        raise RequestError(f"{target} has no update under way{ended}", code="no_active_job")
    return job


def _check_on_offer(job: Job | None, device: str, version: str | None) -> None:
    """Raise RequestError unless a device's last job is, or was to be, an update to this version."""
    done = (JobState.SUCCEEDED, JobState.SUPERSEDED)
    offered = job.version if job is not None and job.state not in done else None
    if version is not None and version != offered:
        what = f"{offered} is" if offered else "nothing is"
        raise RequestError(f"{version!r} is not on offer to {device}: {what}", code="not_on_offer")


def _standing(job: Job) -> str:
    if job.state is JobState.OFFERED:
        return f"created and waits for approval (gatewayctl approve {job.device})"
    return str(job.state)
