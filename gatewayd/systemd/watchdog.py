"""Keeps systemd informed while gatewayd runs: a status line, and watchdog pings while nothing hangs."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gatewayd.systemd.health import Vitals, complaint
from gatewayd.systemd.notify import Notifier

log = structlog.get_logger()

# How often the status line is updated.
UPDATE_INTERVAL_S = 1.0
# Pings per watchdog interval. One may be late and one lost before systemd acts.
PINGS = 3


class Watchdog:
    """While `notify` runs, sends systemd `line` when it changes, and a ping while `vitals` are good."""

    def __init__(
        self,
        service: Notifier,
        *,
        line: Callable[[], str],
        vitals: Callable[[], Vitals],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._service = service
        self._line = line
        self._vitals = vitals
        self._clock = clock
        self._sleep = sleep
        self._ping_due = clock()
        self._complaint = ""

    async def notify(self) -> None:
        """Notify systemd until cancelled."""
        interval_s = None if self._service.watchdog_s is None else self._service.watchdog_s / PINGS
        while True:
            self._service.status(self._line())
            if interval_s is not None and self._clock() >= self._ping_due:
                self._ping_due = self._clock() + interval_s
                self._ping()
            await self._sleep(UPDATE_INTERVAL_S if interval_s is None else min(UPDATE_INTERVAL_S, interval_s))

    def ready(self) -> None:
        """Send the status line, and report that start-up or a reload is complete."""
        self._service.status(self._line())
        self._service.ready()

    def _ping(self) -> None:
        before, self._complaint = self._complaint, complaint(self._vitals())
        if not self._complaint:
            self._service.ping_watchdog()
        elif not before:
            log.error(
                "gatewayd is not making progress; if this continues, systemd restarts it",
                code="hangs",
                reason=self._complaint,
            )
