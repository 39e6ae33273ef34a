"""The composition root: creates gatewayd's parts, and starts them in order."""

import asyncio
import os
import signal
import threading
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from gatewayd import __version__
from gatewayd.codes import meaning
from gatewayd.config import Periodic, Settings
from gatewayd.config.changes import Changes, read_again
from gatewayd.control import messages
from gatewayd.control.operations import ControlContext, ControlOperations
from gatewayd.control.server import ControlServer
from gatewayd.delivery.attempt import Dependencies
from gatewayd.delivery.scheduler import Scheduler
from gatewayd.delivery.sessions import make_session
from gatewayd.errors import GatewaydError, HostError
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.model import Plan
from gatewayd.link.factory import LinkFactory
from gatewayd.mqtt.uplink import Uplink
from gatewayd.planning.commands import Commands
from gatewayd.planning.planner import StoreSnapshot, damaged_topics
from gatewayd.planning.reconciler import Reconciler
from gatewayd.status.board import StatusBoard
from gatewayd.status.feed import StatusFeed
from gatewayd.store.store import Store
from gatewayd.systemd.health import DatabaseProbe, LoopLag, Vitals
from gatewayd.systemd.notify import Notifier, from_environment
from gatewayd.systemd.watchdog import Watchdog, status_line
from gatewayd.timestamps import utc_text

log = structlog.get_logger()

# A daemon that takes longer than five seconds to stop looks as if it hangs.
STOP_LIMIT_S = 4.5
# Short enough after somebody has freed space, and rare enough for a failing disk.
DISK_RETRY_S = 20.0


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises HostError if the state directory cannot be used."""
    stop, hang_up = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hang_up.set)
    log.info(
        "gatewayd starts", version=__version__, gateway=settings.gateway.id, devices=len(settings.devices)
    )
    service = from_environment()
    store = await _open_store(settings.gateway.state_dir, stop, service)
    if store is None:
        return
    async with store:
        running = asyncio.create_task(Daemon(settings, store, service=service).run(hang_up), name="gatewayd")
        stopping = asyncio.create_task(stop.wait(), name="signals")
        damaged = asyncio.create_task(store.damaged.wait(), name="database")
        await asyncio.wait([running, stopping, damaged], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        damaged.cancel()
        if not running.done():
            log.info("gatewayd stops")
            service.stopping()
            _leave_in_time()
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()  # it ended by itself: raise the reason
        if store.damaged.is_set() and store.trouble is not None:
            raise store.trouble  # the restarted daemon creates a new database
    log.info("gatewayd has stopped")


async def _open_store(state_dir: Path, stop: asyncio.Event, service: Notifier) -> Store | None:
    """Open the store; if the disk is full or failing, wait and retry. Returns None when told to stop.

    Raises HostError for a problem that does not pass by itself.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _open_and_recover(state_dir)
        except HostError as error:
            if not meaning(error.code).is_disk:
                raise
            wait_s = min(DISK_RETRY_S, 2.0**attempt)
            log.error("waiting for the disk", code=error.code, reason=str(error), retry_in_s=round(wait_s))  # noqa: TRY400 - not ours
            service.status(f"waiting for the disk: {error} ({error.code})")
        try:
            async with asyncio.timeout(wait_s):
                await stop.wait()
        except TimeoutError:
            continue
        return None


async def _open_and_recover(state_dir: Path) -> Store:
    """Open the store, and put interrupted jobs back in the queue, which a full disk prevents."""
    store = Store(state_dir)
    await store.open()
    try:
        for job in await store.run(lambda database: database.recover()):
            log.info("job goes on", device=job.device, job=job.id, version=job.version)
    except BaseException:
        await store.close()
        raise
    return store


class Daemon:
    """The parts, and the callbacks that connect them."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        links: LinkFactory | None = None,
        service: Notifier | None = None,
    ) -> None:
        self._store = store
        self._service = service or Notifier()
        self._board = StatusBoard(lambda: datetime.now(UTC))
        self._feed = StatusFeed(self._board)
        self._firmware = FirmwareReader(store.spool)
        self._links = links or LinkFactory(settings.adapters)
        dependencies = Dependencies(
            store=store,
            firmware=self._firmware,
            watcher=self._feed,
            make_link=self._links.make,
            make_session=lambda device: make_session(self._settings, device),
            clock=asyncio.get_running_loop().time,
        )
        self._scheduler = Scheduler(dependencies, on_end=self._changed, on_unreachable=self._feed.unreachable)
        self._reconciler = Reconciler(settings, store, self._firmware, self._scheduler, on_plan=self._planned)
        self._lag = LoopLag(dependencies.clock)
        self._database_probe = DatabaseProbe(lambda: store.run(lambda _: None), dependencies.clock)
        self._watchdog = Watchdog(
            self._service, line=self._status_line, vitals=self._vitals, clock=dependencies.clock
        )
        self._refusal = ""  # why the configuration was not reloaded last
        self._topics: frozenset[str] | None = None
        self._asked_again: frozenset[str] = frozenset()
        self._uplink = self._make_uplink(replay_retained=store.is_new)
        self._another_uplink = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._control = ControlServer(settings.gateway.control_socket, self._operations())

    async def run(self, hang_up: asyncio.Event) -> None:
        """Run until cancelled. Each time `hang_up` is set, reload the configuration."""
        self._open_control()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lag.measure(), name="loop lag")
                tasks.create_task(self._database_probe.keep_asking(), name="database probe")
                tasks.create_task(self._watchdog.notify(), name="watchdog")
                tasks.create_task(self._links.clear(self._settings.devices), name="stale connections")
                tasks.create_task(self._scheduler.run(), name="scheduler")
                tasks.create_task(self._reconciler.run(), name="reconciler")
                tasks.create_task(self._keep_uplink(), name="uplink")
                tasks.create_task(self._control.run(), name="control")
                tasks.create_task(self._reload_on(hang_up), name="reload")
                self._report_ready()  # this does not depend on a broker or a device
                log.info("gatewayd is ready")
        finally:
            self._control.close()
            await self._links.close()

    async def reload(self) -> messages.ReloadResult:
        """Reload the configuration; what did not change carries on undisturbed.

        Raises ConfigError, and then keeps the old one.
        """
        async with self._reloading:
            self._service.reloading()
            try:
                result = await self._reload()
                self._refusal = ""
            except GatewaydError as error:
                self._refusal = str(error)
                raise
            finally:
                self._report_ready()
        return result

    async def _reload(self) -> messages.ReloadResult:
        old = self._settings
        new = await asyncio.to_thread(read_again, old)
        changes = Changes.between(old, new)
        await self._reconciler.configure(new)
        if changes.mqtt:
            self._another_uplink.set()
        await self._reconciler.settled()
        self._uplink.session.wake()
        told = asdict(changes)
        log.info("configuration reloaded", **{key: told[key] for key in told if key != "unchanged"})
        warnings = tuple(str(warning) for warning in new.warnings)
        return messages.ReloadResult(file=str(new.file), warnings=warnings, **told)

    async def _reload_on(self, hang_up: asyncio.Event) -> None:
        """Reload on each SIGHUP. Nobody waits for an answer, so the result goes to the log."""
        while True:
            await hang_up.wait()
            hang_up.clear()
            try:
                await self.reload()
            except GatewaydError as error:
                for line in str(error).splitlines():
                    log.error("configuration not reloaded", code=error.code, reason=line)  # noqa: TRY400 - it is theirs
            except Exception:  # last resort: go on with the current configuration
                log.exception("this is a defect in gatewayd, please report it")

    def _report_ready(self) -> None:
        self._service.status(self._status_line())
        self._service.ready()

    def _status_line(self) -> str:
        session = self._uplink.session
        broker = "broker connected" if session.is_connected else "broker not connected"
        if session.next_connection_in_s is not None:
            broker = "sleeping (mqtt.connect)"
        return status_line(
            self._board.all(),
            broker,
            configured=len(self._settings.devices),
            trouble=self._store.trouble,
            refusal=self._refusal,
        )

    def _vitals(self) -> Vitals:
        overdue_s, device = self._scheduler.most_overdue()
        return Vitals(self._lag.take_worst_s(), self._database_probe.silent_s, overdue_s, device)

    @property
    def _settings(self) -> Settings:
        return self._reconciler.settings

    def _changed(self) -> None:
        self._reconciler.changed()

    def _planned(self, plan: Plan, known: StoreSnapshot) -> None:
        damaged = damaged_topics(known) & plan.topics
        for topic in damaged - self._asked_again:
            log.warning("a message is damaged; the broker is asked for it again", topic=topic)
            self._uplink.session.ask_again(topic)
        self._asked_again = damaged
        self._topics = plan.topics
        self._uplink.session.set_topics(plan.topics)
        self._feed.planned(plan, known, self._settings.devices)

    async def _keep_uplink(self) -> None:
        """Run the uplink, and replace it when the broker's settings change."""
        while True:
            self._another_uplink.clear()
            running = asyncio.create_task(self._uplink.run(), name="uplink: run")
            changed = asyncio.create_task(self._another_uplink.wait(), name="uplink: changed")
            try:
                await asyncio.wait([running, changed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                running.cancel()
                changed.cancel()
                await asyncio.wait([running])
            if not running.cancelled():
                running.result()
            self._uplink = self._make_uplink(replay_retained=False)
            if self._topics is not None:
                self._uplink.session.set_topics(self._topics)

    def _make_uplink(self, *, replay_retained: bool) -> Uplink:
        return Uplink(
            self._settings,
            self._store,
            self._board,
            on_change=self._reconciler.changed,
            replay_retained=replay_retained,
        )

    def _operations(self) -> ControlOperations:
        commands = Commands(self._store, self._firmware, self._scheduler, self._reconciler)
        return ControlOperations(
            ControlContext(
                store=self._store,
                firmware=self._firmware,
                reconciler=self._reconciler,
                commands=commands,
                board=self._board,
                feed=self._feed,
                under_way=self._scheduler.under_way,
                broker=self._broker,
                loop_lag=self._loop_lag,
                reload=self.reload,
            )
        )

    def _broker(self) -> messages.Broker:
        session = self._uplink.session
        connect, next_in_s = self._settings.mqtt.connect, session.next_connection_in_s
        next_at = None if next_in_s is None else datetime.now(UTC) + timedelta(seconds=next_in_s)
        return messages.Broker(
            host=self._settings.mqtt.host,
            port=self._settings.mqtt.port,
            connected=session.is_connected,
            topics=tuple(sorted(self._topics or ())),
            subscribed=tuple(sorted(session.subscribed_topics)),
            every_s=round(connect.every.total_seconds()) if isinstance(connect, Periodic) else None,
            next_connection_at=next_at and utc_text(next_at),
            refused_messages=tuple(
                messages.RefusedMessage(topic=topic, code=error.code, reason=str(error))
                for topic, error in sorted(session.refused_messages.items())
            ),
        )

    def _loop_lag(self) -> messages.LoopLag:
        return messages.LoopLag(**asdict(self._lag.figures()))

    def _open_control(self) -> None:
        """Listen on the control socket; if that fails, log it: updates do not need it."""
        try:
            self._control.open()
        except HostError as error:
            log.error("gatewayctl cannot reach this daemon", code=error.code, reason=str(error))  # noqa: TRY400 - no defect


def _leave_in_time() -> None:
    """Make sure that the process ends within five seconds, even if a name server or port hangs in a thread.

    A forced exit does no more harm than a power cut.
    """
    timer = threading.Timer(STOP_LIMIT_S, os._exit, [0])
    timer.daemon = True
    timer.start()
