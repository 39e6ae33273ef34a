"""The composition root: what gatewayd is made of, in the order in which it starts."""

import asyncio
import os
import random
import signal
import threading
from datetime import UTC, datetime

import structlog

from gatewayd import __version__
from gatewayd.config import Device, Settings
from gatewayd.health import LoopLag
from gatewayd.jobs.firmware import FirmwareReader
from gatewayd.jobs.model import Plan
from gatewayd.jobs.planner import Known
from gatewayd.jobs.reconciler import Reconciler
from gatewayd.jobs.scheduler import Scheduler
from gatewayd.jobs.store import Store
from gatewayd.jobs.worker import Ends
from gatewayd.link.base import Link
from gatewayd.link.uart import UartLink
from gatewayd.mqtt.intake import Intake
from gatewayd.mqtt.reports import Reports
from gatewayd.mqtt.session import MqttSession
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.session import TransferSession
from gatewayd.status import StatusBoard, StatusFeed

log = structlog.get_logger()

MIB = 1024 * 1024
# systemd and people take a daemon that needs longer than five seconds for one that hangs.
STOP_LIMIT_S = 4.5


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises HostError when the state directory cannot be used."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info(
        "gatewayd starts", version=__version__, gateway=settings.gateway.id, devices=len(settings.devices)
    )
    async with Store(settings.gateway.state_dir) as store:
        for job in await store.run(lambda database: database.recover()):
            log.info("job goes on", device=job.device, job=job.id, version=job.version)
        log.info("gatewayd is ready")  # neither a broker nor a device needs to answer for that
        running = asyncio.create_task(_run(settings, store), name="gatewayd")
        stopping = asyncio.create_task(stop.wait(), name="signals")
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not running.done():
            log.info("gatewayd stops")
            _leave_in_time()
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()  # it ended by itself: say why
    log.info("gatewayd has stopped")


async def _run(settings: Settings, store: Store) -> None:
    loop = asyncio.get_running_loop()
    root = settings.mqtt.status_topic.replace("{gateway_id}", settings.gateway.id)
    board = StatusBoard(lambda: datetime.now(UTC))
    feed = StatusFeed(board)
    firmware = FirmwareReader(store.spool)
    ends = Ends(
        store=store,
        firmware=firmware,
        watcher=feed,
        make_link=_make_link,
        make_session=lambda device: _make_session(settings, device),
        clock=loop.time,
    )

    def planned(plan: Plan, known: Known) -> None:
        session.set_topics(plan.topics)
        feed.planned(plan, known, settings.devices)

    def changed() -> None:
        reconciler.changed()

    def connected() -> None:
        reports.resend()

    scheduler = Scheduler(ends, on_end=changed, on_unreachable=feed.unreachable)
    reconciler = Reconciler(settings, store, firmware, scheduler, on_plan=planned)
    intake = Intake(
        store,
        template=settings.mqtt.ota_topic,
        max_message_bytes=settings.mqtt.max_message_mib * MIB,
        on_change=changed,
    )
    session = MqttSession(
        settings.mqtt,
        status_topic=root,
        on_message=intake.accept,
        on_connected=connected,
        replay_retained=store.is_new,
    )
    reports = Reports(board, session, status_topic=root)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(LoopLag(loop.time).run(), name="loop lag")
        tasks.create_task(scheduler.run(), name="scheduler")
        tasks.create_task(reconciler.run(), name="reconciler")
        tasks.create_task(reports.run(), name="reports")
        tasks.create_task(session.run(), name="mqtt")


def _leave_in_time() -> None:
    """See to it that we are gone within five seconds, also when a name server or a port hangs in a thread.

    Whatever is cut off then is what a power cut would cut off.
    """
    timer = threading.Timer(STOP_LIMIT_S, os._exit, [0])
    timer.daemon = True
    timer.start()


def _make_link(device: Device) -> Link:
    link = device.link
    return UartLink(link.uart, baud=link.baud, dtr=link.dtr, rts=link.rts)


def _make_session(settings: Settings, device: Device) -> TransferSession:
    link = device.link
    return RcpGateway(
        settings.gateway.id,
        base_baud=link.baud,
        transfer_baud=link.transfer_baud,
        random=random.Random(),  # noqa: S311 - picks nonces and session numbers, not secrets
    )
