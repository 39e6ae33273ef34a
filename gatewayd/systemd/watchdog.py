"""What systemd hears while gatewayd runs: how things stand, in a line, and that nothing hangs."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gatewayd.systemd.health import Vitals, complaint
from gatewayd.systemd.notify import Notifier

log = structlog.get_logger()

# As fresh as a person at `systemctl status` can tell.
BEAT_S = 1.0
# One feeding may come late, and one not at all, before the dog is hungry.
FEEDINGS = 3


class Watchdog:
    """Tells systemd while `run` runs: `line` when it changes, and to wait on while `vitals` are good."""

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
        self._feeding_due = clock()
        self._complaint = ""

    async def run(self) -> None:
        """Until cancelled."""
        interval_s = None if self._service.watchdog_s is None else self._service.watchdog_s / FEEDINGS
        while True:
            self._service.status(self._line())
            if interval_s is not None and self._clock() >= self._feeding_due:
                self._feeding_due = self._clock() + interval_s
                self._feed()
            await self._sleep(BEAT_S if interval_s is None else min(BEAT_S, interval_s))

    def ready(self) -> None:
        """Say how things stand and that updates can begin, or that a reload is over."""
        self._service.status(self._line())
        self._service.ready()

    def _feed(self) -> None:
        before, self._complaint = self._complaint, complaint(self._vitals())
        if not self._complaint:
            self._service.feed_watchdog()
        elif not before:
            log.error(
                "gatewayd does not get on; if that stays so, systemd restarts it",
                code="hangs",
                reason=self._complaint,
            )
