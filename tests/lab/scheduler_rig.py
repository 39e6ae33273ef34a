"""A scheduler at work on boards in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gatewayd.config import Device
from gatewayd.delivery.scheduler import Scheduler
from gatewayd.errors import GatewaydError
from gatewayd.jobs.model import Job
from gatewayd.jobs.transitions import JobState
from lab.board import Bench, Board, a_bench
from lab.jobs import an_rcp_info, until


class Rig:
    """A scheduler at work."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ends = 0
        self.unreachable: list[str] = []
        self.scheduler = Scheduler(
            bench.deps, on_end=self._count, on_unreachable=self._note, chance=lambda: 0.5
        )

    @property
    def board(self) -> Board:
        return self.bench.board

    def assign(self, *jobs: Job) -> None:
        self.scheduler.assign(self.bench.settings, {job.device: job for job in jobs})

    async def run_until(self, *states: JobState, limit_s: float = 3600.0) -> Job:
        await until(lambda: any(job.state in states for job in self.bench.witness.moves), limit_s)
        return await self.bench.job()

    def _count(self) -> None:
        self.ends += 1

    def _note(self, device: Device, error: GatewaydError) -> None:
        self.unreachable.append(f"{device.name}: {error.code}")


@asynccontextmanager
async def a_rig(folder: Path, *devices: Device, boards: dict[str, Board] | None = None) -> AsyncIterator[Rig]:
    boards = {device.name: Board(an_rcp_info()) for device in devices} if boards is None else boards
    async with a_bench(folder / "state", boards, *devices) as bench:
        rig = Rig(bench)
        running = asyncio.create_task(rig.scheduler.run())
        yield rig
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert not any(board.is_open for board in boards.values())
