"""Ends an attempt at any of its steps, and goes on as the next start of the daemon does."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from gatewayd.delivery.scheduler import Scheduler
from gatewayd.errors import GatewaydError
from gatewayd.jobs.transitions import ENDED
from gatewayd.store.database import Database
from lab.board import Bench
from lab.jobs import until


class CutShort:
    """Awaits work, and cancels it in the place of its n-th step; `was_cut` says whether it came to that."""

    def __init__(self, work: Coroutine[Any, Any, Any], steps: int) -> None:
        self._work = work
        self._left = steps
        self.was_cut = False

    def __await__(self) -> Generator[Any, Any, None]:
        resume: Callable[[], Any] = lambda: self._work.send(None)  # noqa: E731
        while True:
            try:
                step = resume()
            except (StopIteration, GatewaydError, asyncio.CancelledError):
                return
            self._left -= 1
            if self._left == 0:
                self.was_cut = True
                resume = lambda: self._work.throw(asyncio.CancelledError())  # noqa: E731
                continue
            try:
                yield step
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the work's
                resume = lambda error=error: self._work.throw(error)  # type: ignore[misc]  # noqa: E731
            else:
                resume = lambda: self._work.send(None)  # noqa: E731


async def go_on(bench: Bench) -> None:
    """What a new start of the daemon does, until the job has ended."""
    await bench.store.run(Database.recover)
    job = await bench.job()
    scheduler = Scheduler(bench.deps, on_end=lambda: None, on_unreachable=lambda *_: None, chance=lambda: 0.5)
    scheduler.assign(bench.settings, {bench.device.name: job} if job.is_active else {})
    running = asyncio.create_task(scheduler.run())
    if job.is_active:
        await until(lambda: bool(bench.witness.moves) and bench.witness.moves[-1].state in ENDED)
    running.cancel()
    await asyncio.wait([running])
