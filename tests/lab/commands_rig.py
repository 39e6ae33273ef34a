"""A whole gateway of jobs for tests: store, planner, scheduler, commands, and boards in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gatewayd.config import Device
from gatewayd.delivery.scheduler import Scheduler
from gatewayd.jobs.model import AttemptRecord, Job
from gatewayd.jobs.transitions import JobState
from gatewayd.mqtt.intake import MessageChecks
from gatewayd.planning.arrivals import Arrivals
from gatewayd.planning.commands import Commands
from gatewayd.planning.reconciler import Reconciler
from gatewayd.store.database import Database
from lab.board import Bench, Board, a_bench
from lab.jobs import TOPIC, TOPIC_TEXT, a_device, an_rcp_info, clock, message, until

IMAGE = bytes(range(256))


class Rig:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.scheduler = Scheduler(
            bench.deps, on_end=self._changed, on_unreachable=lambda *_: None, chance=lambda: 0.5
        )
        self.reconciler = Reconciler(
            bench.settings, bench.store, bench.deps.firmware, self.scheduler, on_plan=lambda *_: None
        )
        self.commands = Commands(bench.store, bench.deps.firmware, self.scheduler, self.reconciler)

    def checks(self) -> MessageChecks:
        """Those of messages, as the daemon has them."""
        firmware = self.bench.deps.firmware
        arrivals = Arrivals(lambda: self.reconciler.settings, self.reconciler.known, firmware, clock)
        return MessageChecks(
            lambda topic, message: firmware.is_signed(self.reconciler.settings, topic.app_id, message),
            arrivals.weigh,
        )

    def _changed(self) -> None:
        self.reconciler.changed()

    @property
    def board(self) -> Board:
        return self.bench.board

    async def publish(self, patch: int = 2, image: bytes = IMAGE) -> None:
        await self.bench.store.add_release(TOPIC, TOPIC_TEXT, message(patch, image))
        await self.reconciler.settled()

    async def jobs(self) -> list[Job]:
        return await self.bench.store.run(Database.jobs)

    async def last(self) -> Job:
        return (await self.jobs())[-1]

    async def states(self) -> list[str]:
        return [f"{job.version} {job.state}" for job in await self.jobs()]

    async def attempts(self, job_id: int = 1) -> list[AttemptRecord]:
        return await self.bench.store.run(lambda db: db.attempts(job_id))

    async def until_state(self, state: JobState, job_id: int = 1) -> Job:
        await until(lambda: any((job.id, job.state) == (job_id, state) for job in self.bench.witness.moves))
        return await self.bench.job(job_id)

    async def until_moving(self) -> None:
        await until(lambda: bool(self.bench.witness.received))


@asynccontextmanager
async def a_rig(folder: Path, *devices: Device) -> AsyncIterator[Rig]:
    devices = devices or (a_device(probe="job"),)
    boards = {device.name: Board(an_rcp_info()) for device in devices}
    async with a_bench(folder / "state", boards, *devices) as bench:
        rig = Rig(bench)
        for board in boards.values():
            board.pace_s = 1.0
        running = [asyncio.create_task(work()) for work in (rig.scheduler.run, rig.reconciler.run)]
        await rig.reconciler.settled()
        yield rig
        assert not any(task.done() for task in running)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        assert not any(board.is_open for board in boards.values())
