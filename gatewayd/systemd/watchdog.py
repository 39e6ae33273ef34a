"""What systemd hears while gatewayd runs: how things stand, in a line, and that nothing hangs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from gatewayd.errors import GatewaydError
from gatewayd.jobs.model import JobState
from gatewayd.status.board import DeviceStatus
from gatewayd.systemd.health import Vitals, complaint
from gatewayd.systemd.notify import Notifier

log = structlog.get_logger()

# As fresh as a person at `systemctl status` can tell.
BEAT_S = 1.0
# One feeding may come late, and one not at all, before the dog is hungry.
FEEDINGS = 3
# So many transfers are named; a line has room for no more.
NAMED = 3
UPDATING = (JobState.TRANSFERRING, JobState.STAGED, JobState.ACTIVATING)
TOLD = ("unreachable", "refused", JobState.OFFERED, JobState.QUEUED, JobState.FAILED)


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


def status_line(
    devices: Sequence[DeviceStatus],
    broker: str,
    *,
    configured: int,
    trouble: GatewaydError | None = None,
    refusal: str = "",
) -> str:
    """How things stand; what a person has to look after comes first.

    `devices` are those of the `configured` that something is known of; `refusal` says why the configuration
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
