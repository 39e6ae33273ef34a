"""A gateway without its edges, in virtual time: intake, store, planner, scheduler, and boards in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lab.board import Bench, Board
from lab.commands_rig import Rig
from lab.jobs import an_rcp_info

from gatewayd.config import Device
from gatewayd.store.store import Store
from suites.wear.meter import Meter


class Gateway(Rig):
    """What a publisher and boards can reach, and what it costs the disk."""

    def __init__(self, bench: Bench, meter: Meter) -> None:
        super().__init__(bench)
        self.meter = meter


@asynccontextmanager
async def a_gateway(folder: Path, *devices: Device) -> AsyncIterator[Gateway]:
    boards = {device.name: Board(an_rcp_info()) for device in devices}
    async with Store(folder / "state", clock=asyncio.get_running_loop().time) as store:
        gateway = Gateway(Bench(store, boards, *devices), await Meter.of(store))
        running = [asyncio.create_task(work()) for work in (gateway.scheduler.run, gateway.reconciler.run)]
        await gateway.reconciler.settled()
        try:
            yield gateway
            assert not any(task.done() for task in running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
