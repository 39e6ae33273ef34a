"""The composition root: creates gatewayd's parts, and starts them in order."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from gatewayd import __version__
from gatewayd.config import Settings
from gatewayd.control.operations import ControlContext, ControlOperations
from gatewayd.control.server import ControlServer
from gatewayd.delivery.dependencies import Dependencies
from gatewayd.delivery.scheduler import Scheduler
from gatewayd.delivery.sessions import make_session
from gatewayd.errors import GatewaydError, HostError
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.model import Plan
from gatewayd.link.factory import LinkFactory
from gatewayd.mqtt.intake import MessageChecks
from gatewayd.mqtt.uplink import Uplink
from gatewayd.planning.arrivals import Arrivals
from gatewayd.planning.commands import Commands
from gatewayd.planning.keeping import damaged_topics
from gatewayd.planning.planner import StoreSnapshot
from gatewayd.planning.reconciler import Reconciler
from gatewayd.reload import Reloader
from gatewayd.status.board import StatusBoard
from gatewayd.status.counters import Counters
from gatewayd.status.feed import StatusFeed
from gatewayd.status.gateway import GatewayStatusReader, login_trouble
from gatewayd.store.opening import open_when_possible
from gatewayd.store.store import Store
from gatewayd.systemd.health import Health
from gatewayd.systemd.notify import Notifier, from_environment
from gatewayd.systemd.status_line import StatusLine
from gatewayd.systemd.watchdog import Watchdog

log = structlog.get_logger()

# A daemon that takes longer than five seconds to stop looks as if it hangs.
STOP_LIMIT_S = 4.5


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
    store = await open_when_possible(settings.gateway.state_dir, stop, service.status)
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
        self._links = links or LinkFactory(settings.adapters)
        self._clock = asyncio.get_running_loop().time
        self._board = StatusBoard(lambda: datetime.now(UTC))
        self._feed = StatusFeed(self._board)
        self._counters = Counters()
        self._firmware = FirmwareReader(store.spool)
        self._scheduler = Scheduler(
            self._dependencies(),
            on_end=self._changed,
            on_unreachable=self._feed.unreachable,
            on_attempt=self._counters.attempt_ended,
        )
        self._reconciler = Reconciler(
            settings,
            store,
            self._firmware,
            self._scheduler,
            on_plan=self._planned,
            turned_away=self._turned_away,
            is_unconfirmed=self._is_unconfirmed,
        )
        self._commands = Commands(store, self._firmware, self._scheduler, self._reconciler)
        self._gateway = GatewayStatusReader(
            lambda: self._settings,
            self._board,
            online_since=lambda: self._uplink.status().online_since,
            refusal=lambda: self._reloader.refusal,
            trouble=lambda: store.trouble or login_trouble(self._settings),
            clock=lambda: datetime.now(UTC),
        )
        self._arrivals = Arrivals(lambda: self._settings, self._reconciler.known, self._firmware, self._clock)
        self._uplink = Uplink(
            lambda: self._settings,
            store,
            self._board,
            gateway=self._gateway.read,
            on_change=self._changed,
            checks=MessageChecks(
                lambda topic, message: self._firmware.is_signed(self._settings, topic.app_id, message),
                self._arrivals.weigh,
            ),
            count=self._counters.message,
            install=lambda name, version: self._commands.install(name, version, by="mqtt"),
        )
        self._health = Health(
            self._clock,
            ask_database=lambda: store.run(lambda _: None),
            most_overdue=self._scheduler.most_overdue,
        )
        self._watchdog = Watchdog(
            self._service, line=self._status_line().text, vitals=self._health.vitals, clock=self._clock
        )
        self._reloader = Reloader(
            self._reconciler,
            self._uplink,
            on_begin=self._service.reloading,
            on_end=self._watchdog.ready,
        )
        self._control = ControlServer(
            settings.gateway.control_socket, ControlOperations(self._control_context())
        )

    async def run(self, hang_up: asyncio.Event) -> None:
        """Run until cancelled. Each time `hang_up` is set, reload the configuration."""
        self._open_control()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._health.measure(), name="health")
                tasks.create_task(self._watchdog.notify(), name="watchdog")
                tasks.create_task(self._links.clear(self._settings.devices), name="stale connections")
                tasks.create_task(self._scheduler.run(), name="scheduler")
                tasks.create_task(self._reconciler.run(), name="reconciler")
                tasks.create_task(self._uplink.run(), name="uplink")
                tasks.create_task(self._control.run(), name="control")
                tasks.create_task(self._reloader.run(hang_up), name="reload")
                tasks.create_task(self._reloader.mend_login(), name="login files")
                self._watchdog.ready()  # this does not depend on a broker or a device
                log.info("gatewayd is ready")
                gc.freeze()  # what is there by now stays; to search all of it would hold the loop for 50 ms
        finally:
            self._control.close()
            await self._links.close()

    def _dependencies(self) -> Dependencies:
        return Dependencies(
            store=self._store,
            firmware=self._firmware,
            watcher=self._feed,
            make_link=self._links.make,
            make_session=lambda device: make_session(self._settings, device),
            clock=self._clock,
        )

    def _status_line(self) -> StatusLine:
        return StatusLine(
            settings=lambda: self._settings,
            board=self._board,
            store=self._store,
            broker=self._uplink.status,
            refusal=lambda: self._reloader.refusal,
        )

    def _control_context(self) -> ControlContext:
        return ControlContext(
            store=self._store,
            firmware=self._firmware,
            reconciler=self._reconciler,
            commands=self._commands,
            board=self._board,
            feed=self._feed,
            under_way=self._scheduler.under_way,
            broker=self._uplink.status,
            gateway=self._gateway.read,
            loop_lag=self._health.loop_lag.figures,
            lag_histogram=self._health.loop_lag.histogram,
            counters=self._counters,
            reload=self._reloader.reload,
        )

    @property
    def _settings(self) -> Settings:
        return self._reconciler.settings

    def _turned_away(self) -> Mapping[str, GatewaydError]:
        broker = self._uplink.status()
        return {**broker.refused, **broker.left_out}

    def _is_unconfirmed(self, topic: str) -> bool:
        return self._uplink.is_unconfirmed(topic)

    def _changed(self) -> None:
        self._reconciler.changed()

    def _planned(self, plan: Plan, known: StoreSnapshot) -> None:
        self._counters.jobs_known(known.jobs)
        not_kept = self._arrivals.changed(known, known.turned_away)
        self._uplink.follow(plan.topics, damaged_topics(known), not_kept)
        self._feed.planned(plan, known, self._settings.devices)

    def _open_control(self) -> None:
        """Listen on the control socket; if that fails, log it: updates do not need it."""
        try:
            self._control.open()
        except HostError as error:
            log.error("gatewayctl cannot reach this daemon", code=error.code, reason=str(error))  # noqa: TRY400 - no defect


def _leave_in_time() -> None:
    """Exit within five seconds, even if a name server or a port hangs in a thread.

    A forced exit does no more harm than a power cut.
    """
    timer = threading.Timer(STOP_LIMIT_S, os._exit, [0])
    timer.daemon = True
    timer.start()
