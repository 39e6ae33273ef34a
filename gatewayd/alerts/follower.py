"""Follows the daemon, and lets a program tell each thing once.

Two loops: one reads the control socket and notes what there is to tell, one runs the program. What was told
is stored when the program has succeeded, so an ordinary restart tells nothing twice, and nothing is lost that
can be learnt later: states are read again at each connection, and jobs that ended meanwhile are asked for.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import structlog

from gatewayd.alerts import events
from gatewayd.alerts.events import Event
from gatewayd.alerts.memory import Memory
from gatewayd.alerts.program import Ending, Program
from gatewayd.allowance import Allowance
from gatewayd.back_off import back_off_s
from gatewayd.control.async_client import ask, subscribe
from gatewayd.control.messages import DeviceView, JobsResult, StatusResult, WatchResult
from gatewayd.control.requests import Jobs, Status, Watch
from gatewayd.errors import GatewaydError

log = structlog.get_logger()

RECONNECT_S = 1.0
STATUS_INTERVAL_S = 30.0
# What happens together is told together where there is too much of it.
GATHER_S = 1.0
# Runs of the program: so many at once, then one every five minutes with all that came meanwhile.
BURST, PER_HOUR = 5, 12
LONGEST_WAIT_S = 900.0
# A program that hangs may have told already.
TIMED_OUT_TRIES = 3
_HISTORY = 1000


class Follower:
    """Tells what is `wanted`. For use on one event loop."""

    def __init__(self, socket: Path, wanted: Collection[str], program: Program, memory: Memory) -> None:
        self._socket = socket
        self._wanted = frozenset(wanted)
        self._program = program
        self._memory = memory
        self._gateway = ""
        self._apps: dict[str, str] = {}
        self._pending: dict[tuple[str, str], Event] = {}
        self._newest = ""
        self._news = asyncio.Event()
        self._allowance = Allowance(BURST, PER_HOUR, time.monotonic)

    async def run(self) -> None:
        """Follow until cancelled; a program that runs then is waited for."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell(), name="tell")
            group.create_task(self._follow(), name="follow")
            if events.TROUBLE in self._wanted:
                group.create_task(self._look_after_gateway(), name="status")

    # -- what there is to tell

    async def _follow(self) -> None:
        is_away = False
        while True:
            try:
                async with contextlib.aclosing(subscribe(self._socket, Watch(), WatchResult)) as answers:
                    everything = await anext(answers)
                    self._apps |= {view.name: view.app_id for view in everything.devices}
                    await self._note_ended_meanwhile()
                    self._note_devices(everything)
                    if is_away:
                        log.info("gatewayd answers again")
                    is_away = False
                    async for news in answers:
                        self._note_devices(news)
            except GatewaydError as error:
                if not is_away:
                    log.warning(
                        "gatewayd does not answer; waiting for it", reason=str(error), code=error.code
                    )
                is_away = True
            await asyncio.sleep(RECONNECT_S)

    async def _note_ended_meanwhile(self) -> None:
        """Note jobs that ended while nobody followed; the very first start has nothing to catch up with."""
        found = (await ask(self._socket, Jobs(limit=_HISTORY), JobsResult)).jobs
        self._memory.forget_jobs_above(max((job.id for job in found), default=0))
        jobs = [job for job in found if job.device in self._apps]
        since = self._memory.since
        if since is not None:
            self._note(events.of_jobs((job for job in jobs if job.updated_at > since), self._apps))
        self._newest = max((job.updated_at for job in jobs), default=self._newest)
        self._save()

    def _note_devices(self, news: WatchResult) -> None:
        self._gateway = news.gateway
        for name in news.removed:
            self._apps.pop(name, None)
            self._memory.forget(name)
        self._apps |= {view.name: view.app_id for view in news.devices}
        for view in news.devices:
            self._note_end(view)
        self._note(event for view in news.devices if (event := events.of_device(view)) is not None)

    def _note_end(self, view: DeviceView) -> None:
        if view.state not in ("unreachable", "unknown"):
            self._memory.is_over(view.name, events.UNREACHABLE)
            self._pending.pop((view.name, events.UNREACHABLE), None)

    async def _look_after_gateway(self) -> None:
        while True:
            with contextlib.suppress(GatewaydError):
                status = await ask(self._socket, Status(), StatusResult)
                self._gateway = status.gateway
                event = events.of_gateway(status)
                if event is None:
                    self._memory.is_over("", events.TROUBLE)
                    self._pending.pop(("", events.TROUBLE), None)
                else:
                    self._note([event])
            await asyncio.sleep(STATUS_INTERVAL_S)

    def _note(self, found: Iterable[Event]) -> None:
        for event in found:
            if event.name in self._wanted and not self._memory.is_told(event):
                self._pending[event.device, event.name] = event
                self._news.set()

    # -- telling it

    async def _tell(self) -> None:
        failures = late = 0
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_S)
            await asyncio.sleep(self._allowance.ready_in_s())
            batch = self._next()
            if not batch:
                self._news.clear()
                continue
            ending = await _to_its_end(asyncio.ensure_future(self._run(batch)))
            late = late + 1 if ending is Ending.TIMED_OUT else 0
            if late >= TIMED_OUT_TRIES:
                log.error("given up, because the program takes too long each time", events=len(batch))
                self._tick_off(batch)
            elif ending is not Ending.DONE:
                failures += 1
                await asyncio.sleep(back_off_s(failures, random.random(), longest_s=LONGEST_WAIT_S))  # noqa: S311 - no secret
                continue
            failures = late = 0
            self._allowance.take()

    def _next(self) -> list[Event]:
        """Return what is told next: one event, or all, if there are more than may be told one by one."""
        waiting = list(self._pending.values())
        return waiting[:1] if self._allowance.has(len(waiting)) else waiting

    async def _run(self, batch: list[Event]) -> Ending:
        log.info("telling", summary=events.summary(self._gateway, batch))
        ending = await self._program.run(events.environment(self._gateway, batch), events.text(batch))
        if ending is Ending.DONE:
            self._tick_off(batch)
        return ending

    def _tick_off(self, batch: list[Event]) -> None:
        for event in batch:
            self._memory.tell(event)
        # By the memory: the same may have been seen again meanwhile, in other words.
        self._pending = {
            place: event for place, event in self._pending.items() if not self._memory.is_told(event)
        }
        self._save()

    def _save(self) -> None:
        if not self._pending:
            self._memory.since = self._newest
        try:
            self._memory.save()
        except GatewaydError as error:
            log.warning("cannot record what was reported; a restart would repeat it", reason=str(error))


async def _to_its_end(running: "asyncio.Future[Ending]") -> Ending:
    """Wait for a run, also for one that runs while this is cancelled: its end has to be stored."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await running
        raise
