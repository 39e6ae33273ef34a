"""Keeps systemd informed while gatewayd runs: a status line, and watchdog pings while nothing hangs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from gatewayd.errors import GatewaydError
from gatewayd.jobs.model import JobState
from gatewayd.status.board import DeviceStatus
from gatewayd.systemd.health import Vitals, complaint
from gatewayd.systemd.notify import Notifier

log = structlog.get_logger()

# How often the status line is updated.
UPDATE_INTERVAL_S = 1.0
# Pings per watchdog interval. One may be late and one lost before systemd acts.
PINGS = 3
# At most this many transfers are named; the line has no room for more.
NAMED = 3
UPDATING = (JobState.TRANSFERRING, JobState.STAGED, JobState.ACTIVATING)
TOLD = ("unreachable", "refused", JobState.OFFERED, JobState.QUEUED, JobState.FAILED)


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


def status_line(
    devices: Sequence[DeviceStatus],
    broker: str,
    *,
    configured: int,
    trouble: GatewaydError | None = None,
    refusal: str = "",
) -> str:
    """Return the line for `systemctl status`; what needs attention comes first.

    `configured`: how many devices there are; `devices`: those with a status; `refusal`: why the configuration
    was not reloaded.
    """
    cares = [f"the new configuration is refused, the old one is in force: {refusal}"] if refusal else []
    if trouble is not None:
        cares.append(f"nothing can be stored: {trouble} ({trouble.code})")
    if not configured:
        return "; ".join([*cares, "no devices configured"])
    updating = [one for one in devices if one.state in UPDATING]
    counts = {state: sum(one.state == state for one in devices) for state in TOLD}
    told = [
        f"{configured} device{'' if configured == 1 else 's'}",
        *([f"{len(updating)} updating ({_named(updating)})"] if updating else []),
        *(f"{count} {state}" for state, count in counts.items() if count),
        broker,
    ]
    return "; ".join([*cares, ", ".join(told)])


def _named(updating: Sequence[DeviceStatus]) -> str:
    names = [f"{one.name} {one.progress or 0} %" for one in updating[:NAMED]]
    return ", ".join(names) + (", …" if len(updating) > NAMED else "")
