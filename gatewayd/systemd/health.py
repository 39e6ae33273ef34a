"""gatewayd's health: event-loop lag, whether the database answers, and whether transfers make progress.

Event-loop lag delays every device on every line. A tick is due on the loop ten times a second; how late it
runs is the delay that a frame arriving at that moment would have seen. The awkward case is a loop that is
blocked for longer than the interval: the ticks that became due meanwhile were late too and are counted, or
one long stop would vanish among the many short ones.
"""

import asyncio
import contextlib
import math
from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import accumulate

import structlog

from gatewayd.errors import HostError
from gatewayd.status.gateway import LagFigures, LagHistogram

log = structlog.get_logger()

INTERVAL_S = 0.1  # often enough for a p99.9 within minutes, too seldom to be noticed on a Pi
KEPT = 6000  # ticks, ten minutes: 48 KB
# Upper bounds of the histogram, which goes back to the start.
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# Generous limits: do not restart a gateway for what passes by itself or what a restart would not fix, such as
# swapping, or the largest message on the slowest SD card.
LATE_LOOP_S = 10.0
SILENT_DATABASE_S = 300.0
OVERDUE_TRANSFER_S = 60.0
# How often the database is probed.
DATABASE_PROBE_S = 5.0


class LoopLag:
    """Measures event-loop lag while `measure` runs. `clock` is the loop's, as is `call_later` if not given.

    A tick is a callback: a task that sleeps would take two turns of the loop for each.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        call_later: Callable[[float, Callable[[], None]], asyncio.Handle] | None = None,
    ) -> None:
        self._clock = clock
        self._call_later = call_later or asyncio.get_running_loop().call_later
        self._due = 0.0
        self._timer: asyncio.Handle | None = None
        self._lags_ms = array("d")  # a ring once it is full
        self._oldest = 0
        self._worst_ms = 0.0
        self._counts = [0] * (len(BOUNDS_S) + 1)  # by the first bound that is not exceeded
        self._sum_s = 0.0

    async def measure(self) -> None:
        """Measure until cancelled, then log the figures."""
        self._due = self._clock() + INTERVAL_S
        self._set_timer()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            found = self.figures()
            log.info(
                "event loop",
                lag_p50_ms=round(found.p50_ms, 1),
                lag_p99_9_ms=round(found.p99_9_ms, 1),
                lag_max_ms=round(found.max_ms, 1),
                samples=found.samples,
            )

    def woke(self, due: float, now: float) -> float:
        """Record that the tick due at `due` runs at `now`, and all that became due in between.

        Returns the time of the next one.
        """
        missed = int((now - due) / INTERVAL_S)
        due += max(0, missed - KEPT) * INTERVAL_S  # skip those that the ring could not keep
        while due <= now:
            self._note((now - due) * 1000)
            due += INTERVAL_S
        return due

    def take_worst_s(self) -> float:
        """Return the worst lag since the last call."""
        worst_ms, self._worst_ms = self._worst_ms, 0.0
        return worst_ms / 1000

    def figures(self) -> LagFigures:
        """Return the figures so far."""
        lags = sorted(self._lags_ms)
        if not lags:
            return LagFigures()
        return LagFigures(_share(lags, 0.5), _share(lags, 0.999), lags[-1], len(lags))

    def histogram(self) -> LagHistogram:
        """Return how often the loop was how late since it began."""
        counts = tuple(accumulate(self._counts))
        return LagHistogram(BOUNDS_S, counts[:-1], counts[-1], self._sum_s)

    def _set_timer(self) -> None:
        self._timer = self._call_later(max(0.0, self._due - self._clock()), self._tick)

    def _tick(self) -> None:
        self._due = self.woke(self._due, self._clock())
        self._set_timer()

    def _note(self, lag_ms: float) -> None:
        self._worst_ms = max(self._worst_ms, lag_ms)
        self._counts[bisect_left(BOUNDS_S, lag_ms / 1000)] += 1
        self._sum_s += lag_ms / 1000
        if len(self._lags_ms) < KEPT:
            self._lags_ms.append(lag_ms)
            return
        self._lags_ms[self._oldest] = lag_ms
        self._oldest = (self._oldest + 1) % KEPT


class DatabaseProbe:
    """Sends a trivial request to the database's thread at regular intervals while `keep_asking` runs."""

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

    async def keep_asking(self) -> None:
        """Ask until cancelled."""
        while True:
            self._asked_at = self._clock()
            with contextlib.suppress(HostError):  # the disk fails, but the thread answers
                await self._ask()
            self._asked_at = None
            await self._sleep(DATABASE_PROBE_S)

    @property
    def silent_s(self) -> float:
        """How long the current request has waited for its answer."""
        return 0.0 if self._asked_at is None else self._clock() - self._asked_at


@dataclass(frozen=True, slots=True)
class Vitals:
    """The signs of a hang. `overdue_device`: the device whose transfer is overdue the longest."""

    late_loop_s: float = 0.0
    silent_database_s: float = 0.0
    overdue_transfer_s: float = 0.0
    overdue_device: str = ""


class Health:
    """Collects the vital signs while `measure` runs.

    `ask_database` returns when the database's thread has answered; `most_overdue` returns by how many seconds
    the most overdue transfer is late, and its device.
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

    async def measure(self) -> None:
        """Measure until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop_lag.measure(), name="loop lag")
            tasks.create_task(self._database.keep_asking(), name="database probe")

    def vitals(self) -> Vitals:
        """Return the vital signs; the loop's lag is the worst since the last call."""
        overdue_s, device = self._most_overdue()
        return Vitals(self.loop_lag.take_worst_s(), self._database.silent_s, overdue_s, device)


def complaint(vitals: Vitals) -> str:
    """Return why gatewayd should be restarted; "" if nothing hangs."""
    if vitals.late_loop_s > LATE_LOOP_S:
        return f"the event loop was late by {vitals.late_loop_s:.0f} s"
    if vitals.silent_database_s > SILENT_DATABASE_S:
        return f"the database has not answered for {vitals.silent_database_s:.0f} s"
    if vitals.overdue_transfer_s > OVERDUE_TRANSFER_S:
        since = f"for {vitals.overdue_transfer_s:.0f} s"
        return f"the transfer to {vitals.overdue_device} has been overdue {since}"
    return ""


def _share(ordered: list[float], share: float) -> float:
    """Return the smallest value that this share of all values does not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1]
