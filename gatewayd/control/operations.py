"""What each request of the control socket does."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial

import structlog

from gatewayd.config import Settings
from gatewayd.config.changes import Reloaded, read_again
from gatewayd.control import messages, requests, views
from gatewayd.control.caller import Caller
from gatewayd.control.metrics_messages import MetricsResult
from gatewayd.control.metrics_view import metrics_result
from gatewayd.control.replies import Result
from gatewayd.errors import GatewaydError, HostError, RequestError
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.eligibility import installed_versions
from gatewayd.jobs.model import EVERYTHING, AttemptRecord, DeviceRecord, Job, pause_of
from gatewayd.jobs.near_misses import near_misses
from gatewayd.jobs.transitions import ENDED
from gatewayd.ota.version import Version
from gatewayd.planning.commands import CommandResult, Commands, find_device
from gatewayd.planning.planner import StoreSnapshot
from gatewayd.planning.preview import Preview, assessments, forecasts, suspensions, with_message
from gatewayd.planning.reconciler import Reconciler
from gatewayd.status.board import StatusBoard
from gatewayd.status.counters import Counters
from gatewayd.status.feed import StatusFeed
from gatewayd.status.gateway import BrokerStatus, GatewayStatus, LagFigures, LagHistogram
from gatewayd.store.database import Database
from gatewayd.store.store import Store
from gatewayd.timestamps import utc_text

log = structlog.get_logger()

MIB = 1024 * 1024
# Short enough to show movement, long enough that thirty busy devices do not load the daemon.
WATCH_INTERVAL_S = 0.2
# Log changes at info, queries (perhaps several a minute) at debug.
_CHANGES = (requests.Push, requests.Steer, requests.Hold, requests.Reload)


@dataclass(frozen=True)
class ControlContext:
    """The parts of the daemon that operations use; built once by the composition root."""

    store: Store
    firmware: FirmwareReader
    reconciler: Reconciler
    commands: Commands
    board: StatusBoard
    feed: StatusFeed
    under_way: Callable[[int], AttemptRecord | None]
    broker: Callable[[], BrokerStatus]
    gateway: Callable[[], GatewayStatus]
    loop_lag: Callable[[], LagFigures]
    lag_histogram: Callable[[], LagHistogram]
    counters: Counters
    reload: Callable[[], Awaitable[Reloaded]]


class ControlOperations:
    """The requests that a running gatewayd answers, however they arrive."""

    def __init__(self, context: ControlContext) -> None:
        self._parts = context
        # One file at a time: each may take max_message_mib of memory, and many may arrive together.
        self._one_file = asyncio.Lock()

    async def answer(self, request: requests.AnyRequest, caller: Caller) -> AsyncIterator[Result]:
        """Yield the answers to a request. Raises GatewaydError."""
        note = log.info if isinstance(request, _CHANGES) else log.debug
        note("request", op=request.op, user=caller.name, uid=caller.uid, pid=caller.pid)
        match request:
            case requests.Watch():
                async with aclosing(self._watch()) as changes:
                    async for change in changes:
                        yield change
            case requests.Reload():
                log.info("reload requested", by=caller.name)
                yield views.reload_result(await self._parts.reload())
            case requests.Push() | requests.Steer() | requests.Hold():
                yield await self._steer(request, caller)
            case _:
                yield await self._query(request, caller)

    # -- queries

    async def _query(self, request: requests.AnyQuery, caller: Caller) -> Result:
        found: Result
        match request:
            case requests.Status():
                found = await self._status()
            case requests.Metrics():
                found = await self._metrics()
            case requests.CheckConfig():
                found = await self._check_config()
            case requests.Devices():
                found = await self._devices(request)
            case requests.Jobs():
                found = await self._jobs(request)
            case requests.OneJob():
                found = await self._job(request)
            case requests.ExplainMessage():
                found = await self._explain_message(request, caller)
            case requests.ExplainDevice() | requests.Suspended():
                found = await self._explain(request)
        return found

    async def _status(self) -> messages.StatusResult:
        known = await self._parts.reconciler.known()
        settings, gateway = self._settings, self._parts.gateway()
        return messages.StatusResult(
            gateway=settings.gateway.id,
            version=gateway.version,
            pid=os.getpid(),
            started_at=utc_text(gateway.started_at),
            online_since=gateway.online_since and utc_text(gateway.online_since),
            config_revision=gateway.config_revision,
            config_refused=gateway.config_refused or None,
            config_file=str(settings.file.absolute()),
            state_dir=str(settings.gateway.state_dir),
            devices=len(settings.devices),
            active_jobs=sum(job.is_active for job in known.jobs),
            paused=views.pause_view(known.pauses.get(EVERYTHING)),
            broker=views.broker_view(settings, self._parts.broker()),
            loop_lag=views.loop_lag_view(self._parts.loop_lag()),
            watchdog_s=views.watchdog_s(),
            trouble=views.trouble_view(gateway.trouble),
        )

    async def _metrics(self) -> MetricsResult:
        known = await self._parts.reconciler.known()
        names = [device.name for device in self._settings.devices]
        return metrics_result(
            self._settings,
            known,
            status=await self._status(),
            devices=self._views(names, known),
            figures=self._parts.counters.figures(),
            under_way=self._parts.under_way,
            loop_lag=self._parts.lag_histogram(),
        )

    async def _check_config(self) -> messages.CheckConfigResult:
        settings, revision = self._settings, self._parts.gateway().config_revision
        found: Settings | GatewaydError
        try:
            found = await asyncio.to_thread(read_again, settings)
        except GatewaydError as error:
            found = error
        return views.check_config_result(settings, revision, found)

    async def _devices(self, request: requests.Devices) -> messages.DevicesResult:
        for name in request.names:
            find_device(self._settings, name)
        known = await self._parts.reconciler.known()
        gateway = self._parts.gateway()
        names = request.names or [device.name for device in self._settings.devices]
        return messages.DevicesResult(
            gateway=self._settings.gateway.id,
            paused=views.pause_view(known.pauses.get(EVERYTHING)),
            trouble=views.trouble_view(gateway.trouble),
            config_refused=gateway.config_refused or None,
            devices=self._views(names, known),
        )

    async def _watch(self) -> AsyncGenerator[messages.WatchResult, None]:
        gateway = self._settings.gateway.id
        with self._parts.board.subscribe() as changes:
            known = await self._parts.reconciler.known()
            everybody = [device.name for device in self._settings.devices]
            yield messages.WatchResult(gateway=gateway, devices=self._views(everybody, known), removed=())
            async for name in changes:
                names = {name, *changes.take()}
                configured = {device.name for device in self._settings.devices}
                yield messages.WatchResult(
                    gateway=gateway,
                    devices=self._views(names & configured, await self._known_about(names) or known),
                    removed=tuple(sorted(names - configured)),
                )
                await asyncio.sleep(WATCH_INTERVAL_S)

    async def _jobs(self, request: requests.Jobs) -> messages.JobsResult:
        jobs = await self._parts.store.run(Database.jobs)
        if request.device is not None and all(job.device != request.device for job in jobs):
            find_device(self._settings, request.device)  # a device that was removed still has its history
        wanted = [
            job
            for job in reversed(jobs)
            if request.device in (None, job.device) and (job.is_active or not request.active)
        ]
        return messages.JobsResult(jobs=await self._job_views(wanted[: request.limit]))

    async def _job(self, request: requests.OneJob) -> messages.JobResult:
        job = await self._parts.store.run(lambda db: db.job(request.id))
        attempts = await self._parts.store.run(lambda db: db.attempts(request.id))
        now = self._parts.under_way(request.id)
        if now is not None and attempts and not attempts[-1].ended_at:
            attempts[-1] = now.after(attempts[-1])
        return messages.JobResult(job=views.job_view(job, attempts), attempts=views.attempt_views(attempts))

    async def _explain_message(
        self, request: requests.ExplainMessage, caller: Caller
    ) -> messages.ExplainMessageResult:
        settings = self._settings
        topic = settings.mqtt.ota_topic.parse(request.topic)
        if topic is None:
            meant = settings.mqtt.ota_topic.suggest(request.topic)
            raise RequestError(
                f"topic {request.topic[:200]!r} does not have the form {settings.mqtt.ota_topic.template}",
                code="not_ours",
                hint=f"did you mean {meant}? It is another topic" if meant else "mqtt.ota_topic sets it",
            )
        async with self._one_file:
            message = await self._read(caller)
            preview = await with_message(
                settings,
                await self._parts.reconciler.known(),
                self._parts.firmware,
                topic=topic,
                topic_text=request.topic,
                message=message,
            )
        return messages.ExplainMessageResult(
            topic=request.topic,
            size_bytes=len(message),
            withdraws=not message,
            devices=tuple(views.forecast_view(one) for one in forecasts(settings, preview)),
            near_misses=tuple(near_misses(topic, installed_versions(settings, preview.known.devices))),
            own_versions=preview.own_versions,
        )

    async def _explain(self, request: requests.ExplainDevice | requests.Suspended) -> Result:
        if isinstance(request, requests.ExplainDevice):
            return await self._explain_device(request)
        return views.suspended_result(suspensions(self._settings, await self._parts.reconciler.known()))

    async def _explain_device(self, request: requests.ExplainDevice) -> messages.ExplainDeviceResult:
        settings = self._settings
        device = find_device(settings, request.device)
        known = await self._parts.reconciler.known()
        forecast = next(one for one in forecasts(settings, Preview(known, None)) if one.device == device.name)
        jobs = [job for job in known.jobs if job.device == device.name]
        return messages.ExplainDeviceResult(
            forecast=views.forecast_view(forecast),
            paused=views.pause_view(pause[0] if (pause := pause_of(known.pauses, device.name)) else None),
            releases=tuple(views.assessment_view(one) for one in assessments(settings, known, device)),
            job=(await self._job_views(jobs[-1:]))[0] if jobs else None,
        )

    # -- commands

    async def _steer(
        self, request: requests.Push | requests.Steer | requests.Hold, caller: Caller
    ) -> messages.OutcomesResult:
        commands = self._parts.commands
        match request:
            case requests.Push():
                return views.outcomes_result([await self._push(request, caller)])
            case requests.Hold():
                return await self._hold(request, _who(request, caller))
            case _:
                acts: dict[str, Callable[[str, str], Awaitable[CommandResult]]] = {
                    "approve": commands.approve,
                    "cancel": commands.cancel,
                    "retry": partial(commands.retry, reverted=request.reverted),
                }
                outcomes, refused = [], []
                for target in dict.fromkeys(request.targets):
                    try:
                        outcomes.append(await acts[request.op](target, _who(request, caller)))
                    except GatewaydError as error:
                        refused.append((target, error))
                return _answer(request.targets, outcomes, refused)

    async def _hold(self, request: requests.Hold, by: str) -> messages.OutcomesResult:
        hold = {"pause": self._parts.commands.pause, "resume": self._parts.commands.resume}[request.op]
        names, refused = [], []
        for name in dict.fromkeys(request.devices):
            try:
                names.append(find_device(self._settings, name).name)
            except RequestError as error:
                refused.append((name, error))
        # An empty list would mean every device.
        outcomes = await hold(names, by) if names or not request.devices else ()
        return _answer(request.devices, outcomes, refused)

    async def _push(self, request: requests.Push, caller: Caller) -> CommandResult:
        try:
            version = Version.parse(request.version)
        except GatewaydError as error:
            raise RequestError(error.message, code=error.code, hint=error.hint) from None
        async with self._one_file:
            content = await self._read(caller)
            push = self._parts.commands.push
            return await push(request.device, version, content, caller.name, to_line=request.line)

    # -- helpers

    @property
    def _settings(self) -> Settings:
        return self._parts.reconciler.settings

    async def _job_views(self, jobs: Sequence[Job]) -> tuple[messages.JobView, ...]:
        def read(database: Database) -> tuple[messages.JobView, ...]:
            return tuple(views.job_view(job, database.attempts(job.id)) for job in jobs)

        return await self._parts.store.run(read)

    def _views(self, names: Iterable[str], known: StoreSnapshot) -> tuple[messages.DeviceView, ...]:
        wanted = set(names)
        ended = {job.device: job for job in known.jobs if not job.is_active}
        return tuple(
            views.device_view(
                device,
                self._parts.board.get(device.name),
                self._parts.feed.link_health(device.name),
                known.devices.get(device.name, DeviceRecord(device.name)),
                ended.get(device.name),
            )
            for device in self._settings.devices
            if device.name in wanted
        )

    async def _known_about(self, names: set[str]) -> StoreSnapshot | None:
        """Return the planner's latest snapshot, or a new one if a job has just ended."""
        latest = self._parts.reconciler.latest
        if any(status.state in ENDED for status in self._parts.board.all() if status.name in names):
            with suppress(HostError):
                return await self._parts.reconciler.known()
        return latest

    async def _read(self, caller: Caller) -> bytes:
        """Read the attached file. Raises RequestError, FirmwareError `too_large`."""
        return await caller.read_file(self._settings.mqtt.max_message_mib * MIB)


def _who(request: requests.Steer | requests.Hold, caller: Caller) -> str:
    """Name who gave a command: the user that the kernel names, and whom that user says to act for."""
    return f"{request.on_behalf_of} via {caller.name}" if request.on_behalf_of else caller.name


def _answer(
    targets: Sequence[str], outcomes: Sequence[CommandResult], refused: Sequence[tuple[str, GatewaydError]]
) -> messages.OutcomesResult:
    """Report what was done for each target and what was not. Raises the error of a single target."""
    if refused and len(targets) == 1:
        raise refused[0][1]
    return views.outcomes_result(outcomes, refused)
