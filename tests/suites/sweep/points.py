"""Which points there are to kill at, and what happens at one."""

import asyncio
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lab.brokers import Mosquitto

from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.inbox import Inbox
from suites.sweep.forked import Injection
from suites.sweep.scene import CALLS, SCENARIOS, Outcome, Scene

KILLED = 137  # as a shell says SIGKILL
TRIES = 3
# Runs to count the calls in.
UNDISTURBED = 2
_CALL = re.compile(rf"(\d+) +({'|'.join(CALLS)})\(")


@dataclass(frozen=True, slots=True)
class Point:
    """The daemon is killed as it enters `call` for the `when`-th time; the call is not made."""

    scenario: str
    call: str
    when: int

    def __str__(self) -> str:
        return f"{self.scenario}:{self.call}:{self.when}"

    @classmethod
    def parse(cls, text: str) -> "Point":
        scenario, call, when = text.split(":")
        return cls(scenario, call, int(when))


class Field:
    """Scenarios made ready in a folder, from which each point gets a copy."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.folder = folder
        self._made = {
            scenario.name: (scenario, Scene.prepared(folder / f"before-{scenario.name}", broker, scenario))
            for scenario in SCENARIOS
        }

    def points(self, broker: Mosquitto) -> list[Point]:
        """Every call that undisturbed runs of each scenario have made, once.

        How many there are varies a little from run to run: what all runs made counts. strace counts for each
        thread, and the first to get to the number is meant.
        """
        return [
            Point(name, call, when)
            for name in self._made
            for call, count in sorted(self._calls_of(name, broker).items())
            for when in range(1, count + 1)
        ]

    def _calls_of(self, name: str, broker: Mosquitto) -> Counter[str]:
        scenario, scene = self._made[name]
        least: Counter[str] | None = None
        for number in range(UNDISTURBED):
            copy = scene.copy(self.folder / f"undisturbed-{name}-{number}", broker)
            outcome = copy.run(scenario, None)
            assert outcome == Outcome(0, ()), (name, outcome, copy.folder)
            least = _calls(copy) if least is None else least & _calls(copy)
        return least or Counter()

    def kill(self, point: Point, broker: Mosquitto, *, broken: bool = False) -> Outcome:
        """Kill at a point, start again, judge. `broken`: with a daemon that acknowledges before it commits.

        What a violation was found in is left where it is. How many calls a run makes varies a little: one
        that ends before the point is made again.
        """
        for _ in range(TRIES - 1):
            outcome = self._try(point, broker, broken=broken)
            if outcome.status == KILLED or outcome.violations:
                return outcome
        return self._try(point, broker, broken=broken)

    def _try(self, point: Point, broker: Mosquitto, *, broken: bool) -> Outcome:
        scenario, scene = self._made[point.scenario]
        folder = self.folder / ("broken-" * broken + str(point).replace(":", "-"))
        copy = scene.copy(folder, broker)
        injection = Injection(point.call, "signal=KILL", str(point.when))
        outcome = copy.run(scenario, injection, acknowledge_first if broken else None)
        if not outcome.violations:
            shutil.rmtree(folder)
        return outcome


def acknowledge_first() -> None:
    """Break the daemon: what the sweep must notice, or it notices nothing."""

    async def receive(self: Inbox, connection: Connection) -> None:
        while True:
            delivery = await connection.receive()
            connection.acknowledge(delivery)
            await asyncio.sleep(0.05)  # else it may still be in the queue when the kill comes
            await self._take(delivery.message)

    Inbox.receive = receive  # type: ignore[method-assign]  # this is how to break it


def _calls(scene: Scene) -> Counter[str]:
    lines = (scene.folder / "strace").read_text().splitlines()
    by_thread = Counter(match.groups() for line in lines if (match := _CALL.match(line)))
    most: Counter[str] = Counter()
    for (_, call), count in by_thread.items():
        most[call] = max(most[call], count)
    return most
