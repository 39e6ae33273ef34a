"""Whether gatewayd is well: how late its event loop is, whether its database answers, whether transfers move.

The loop's lag is what every device on every line waits for. Ten times a second something falls due on the
loop. How late it runs is the lag that a frame which arrived at that moment would have met. The awkward case
is a loop that is held up for longer than a tenth of a second: the ticks that fell due meanwhile were late,
too, and count, or one long stop would vanish among the short ones.
"""

import asyncio
import contextlib
import math
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from gatewayd.errors import HostError
from gatewayd.status.gateway import LagFigures

log = structlog.get_logger()

INTERVAL_S = 0.1  # often enough for a p99.9 within minutes, too seldom to be noticed on a Pi
KEPT = 6000  # ticks, ten minutes: 48 KB
# A gateway is not restarted for what passes by itself, nor for what a restart would not mend: a machine that
# swaps, the largest message on the slowest SD card.
LATE_LOOP_S = 10.0
SILENT_DATABASE_S = 300.0
OVERDUE_TRANSFER_S = 60.0
# How often the database is asked whether it is there.
DATABASE_PROBE_S = 5.0


class LoopLag:
    """Measures while `run` runs; `figures` any time. `clock` is the loop's."""

    def __init__(
        self, clock: Callable[[], float], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lags_ms = array("d")  # a ring once it is full
        self._oldest = 0
        self._worst_ms = 0.0

    async def run(self) -> None:
        """Measure until cancelled; then log what was found."""
        due = self._clock() + INTERVAL_S
        try:
            while True:
                await self._sleep(max(0.0, due - self._clock()))
                due = self.woke(due, self._clock())
        finally:
            found = self.figures()
            log.info(
                "event loop",
                lag_p50_ms=round(found.p50_ms, 1),
                lag_p99_9_ms=round(found.p99_9_ms, 1),
                lag_max_ms=round(found.max_ms, 1),
                samples=found.samples,
            )

    def woke(self, due: float, now: float) -> float:
        """Note that what was due at `due` runs at `now`, with all that fell due in between.

        Returns when the next one is due.
        """
        missed = int((now - due) / INTERVAL_S)
        due += max(0, missed - KEPT) * INTERVAL_S  # what the ring would forget again at once
        while due <= now:
            self._note((now - due) * 1000)
            due += INTERVAL_S
        return due

    def take_worst_s(self) -> float:
        """Return how late the loop was at most since this was last asked."""
        worst_ms, self._worst_ms = self._worst_ms, 0.0
        return worst_ms / 1000

    def figures(self) -> LagFigures:
        """What is known now."""
        lags = sorted(self._lags_ms)
        if not lags:
            return LagFigures()
        return LagFigures(_share(lags, 0.5), _share(lags, 0.999), lags[-1], len(lags))

    def _note(self, lag_ms: float) -> None:
        self._worst_ms = max(self._worst_ms, lag_ms)
        if len(self._lags_ms) < KEPT:
            self._lags_ms.append(lag_ms)
            return
        self._lags_ms[self._oldest] = lag_ms
        self._oldest = (self._oldest + 1) % KEPT


class DatabaseProbe:
    """Asks the database's thread for a sign of life, again and again while `run` runs."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        clock: Callable[[], float],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._sleep = sleep
        self._asked_at: float | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._asked_at = self._clock()
            with contextlib.suppress(HostError):  # the disk has trouble, and the thread says so
                await self._ask()
            self._asked_at = None
            await self._sleep(DATABASE_PROBE_S)

    @property
    def silent_s(self) -> float:
        """How long the question that was asked last has waited for its answer."""
        return 0.0 if self._asked_at is None else self._clock() - self._asked_at


@dataclass(frozen=True, slots=True)
class Vitals:
    """What shows whether gatewayd hangs; `overdue_device` has the transfer that is overdue the longest."""

    late_loop_s: float = 0.0
    silent_database_s: float = 0.0
    overdue_transfer_s: float = 0.0
    overdue_device: str = ""


class Health:
    """Takes the vitals while `run` runs.

    `ask_database` returns when the database's thread has answered; `most_overdue` says for how many seconds
    a transfer should have acted and has not, and to which device.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        ask_database: Callable[[], Awaitable[object]],
        most_overdue: Callable[[], tuple[float, str]],
    ) -> None:
        self.loop_lag = LoopLag(clock)
        self._database = DatabaseProbe(ask_database, clock)
        self._most_overdue = most_overdue

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop_lag.run(), name="loop lag")
            tasks.create_task(self._database.run(), name="database probe")

    def vitals(self) -> Vitals:
        """Return them; the loop's lag is the worst since they were taken last."""
        overdue_s, device = self._most_overdue()
        return Vitals(self.loop_lag.take_worst_s(), self._database.silent_s, overdue_s, device)


def complaint(vitals: Vitals) -> str:
    """Say why a restart is called for; empty when nothing hangs."""
    if vitals.late_loop_s > LATE_LOOP_S:
        return f"the event loop was late by {vitals.late_loop_s:.0f} s"
    if vitals.silent_database_s > SILENT_DATABASE_S:
        return f"the database has not answered for {vitals.silent_database_s:.0f} s"
    if vitals.overdue_transfer_s > OVERDUE_TRANSFER_S:
        since = f"for {vitals.overdue_transfer_s:.0f} s"
        return f"the transfer to {vitals.overdue_device} should have acted {since}, and has not"
    return ""


def _share(ordered: list[float], share: float) -> float:
    """Return the smallest value that so large a share of all does not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1]
