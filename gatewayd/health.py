"""How late the event loop is: what every device on every line waits for.

Ten times a second something falls due on the loop. How late it runs is the lag that a frame which arrived at
that moment would have met. The awkward case is a loop that is held up for longer than a tenth of a second:
the ticks that fell due meanwhile were late, too, and count, or one long stop would vanish among the short
ones.
"""

import asyncio
import math
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

INTERVAL_S = 0.1  # often enough for a p99.9 within minutes, too seldom to be noticed on a Pi
KEPT = 6000  # ticks, ten minutes: 48 KB


@dataclass(frozen=True, slots=True)
class LagFigures:
    """The loop's lag over the last ten minutes, or since it began; zeros without samples."""

    p50_ms: float = 0.0
    p99_9_ms: float = 0.0
    max_ms: float = 0.0
    samples: int = 0


class LoopLag:
    """Measures while `run` runs; `figures` any time. `clock` is the loop's."""

    def __init__(
        self, clock: Callable[[], float], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lags_ms = array("d")  # a ring once it is full
        self._oldest = 0

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

    def figures(self) -> LagFigures:
        """What is known now."""
        lags = sorted(self._lags_ms)
        if not lags:
            return LagFigures()
        return LagFigures(_share(lags, 0.5), _share(lags, 0.999), lags[-1], len(lags))

    def _note(self, lag_ms: float) -> None:
        if len(self._lags_ms) < KEPT:
            self._lags_ms.append(lag_ms)
            return
        self._lags_ms[self._oldest] = lag_ms
        self._oldest = (self._oldest + 1) % KEPT


def _share(ordered: list[float], share: float) -> float:
    """Return the smallest value that so large a share of all does not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1]
