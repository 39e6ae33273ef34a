"""`make sweep`: kill the daemon at each system call that changes its store, start it again, and judge.

A daemon with its acknowledgement before the commit goes through the same first: one that is not caught means
that nothing would be.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from lab.brokers import Mosquitto

from suites.sweep.points import KILLED, Field, Point
from suites.sweep.scene import Outcome

# The points at which a message is between the broker and the disk: the broken daemon must be caught there.
# The first two calls of fsync are for directories that it makes.
CONTROLS = [Point("first", call, when) for call, when in (("write", 1), ("fsync", 3), ("rename", 1))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sweep", description=__doc__)
    parser.add_argument(
        "--points", type=int, default=1000, help="how many, chosen at random if there are more"
    )
    parser.add_argument("--only", type=Point.parse, action="append", metavar="SCENARIO:CALL:N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gatewayd-sweep-"))
    with ExitStack() as stack:
        brokers = [
            stack.enter_context(Mosquitto(folder / f"mosquitto-{number}")) for number in range(options.jobs)
        ]
        status = sweep(Field(folder, brokers[0]), brokers, options)
    if status == 0:
        shutil.rmtree(folder)
    else:
        click.echo(f"{folder} has a folder for each point that broke a promise")
    return status


def sweep(field: Field, brokers: Sequence[Mosquitto], options: argparse.Namespace) -> int:
    """Return what the process ends with.

    1 when a promise was broken, a point was not reached, or the control was not caught.
    """
    begun = time.monotonic()
    caught = [point for point in CONTROLS if field.kill(point, brokers[0], broken=True).violations]
    click.echo(f"acknowledged before the commit: caught at {len(caught)} of {len(CONTROLS)} points")
    there_are = options.only or field.points(brokers[0])
    points = choose(there_are, options.points, options.seed)
    click.echo(f"{len(points)} of {len(there_are)} points, {len(brokers)} at a time")
    results = dict(show_progress(run(field, points, brokers), len(points)))
    click.echo(report(results))
    click.echo(f"{time.monotonic() - begun:.0f} s")
    is_well = all(outcome == Outcome(KILLED, ()) for outcome in results.values())
    return 0 if is_well and len(caught) == len(CONTROLS) else 1


def choose(points: list[Point], count: int, seed: int) -> list[Point]:
    """Return all of them if there are no more, and otherwise a random choice, the same for the same seed."""
    if len(points) <= count:
        return points
    return random.Random(seed).sample(points, count)


def run(
    field: Field, points: Sequence[Point], brokers: Sequence[Mosquitto]
) -> Iterator[tuple[Point, Outcome]]:
    """Kill at each point, with one worker for each broker."""
    fork = get_context("fork")
    free = fork.SimpleQueue()
    for broker in brokers:
        free.put(broker.port)
    # Forked before the pool's own threads begin, so that its workers can fork daemons.
    with fork.Pool(len(brokers), Worker.begin, (field, brokers, free)) as pool:
        yield from pool.imap_unordered(Worker.kill, points)


class Worker:
    """What a worker's process has."""

    field: Field
    broker: Mosquitto

    @classmethod
    def begin(cls, field: Field, brokers: Sequence[Mosquitto], free: Any) -> None:
        port = free.get()
        cls.field, cls.broker = field, next(broker for broker in brokers if broker.port == port)

    @classmethod
    def kill(cls, point: Point) -> tuple[Point, Outcome]:
        return point, cls.field.kill(point, cls.broker)


def show_progress(results: Iterator[tuple[Point, Outcome]], total: int) -> Iterator[tuple[Point, Outcome]]:
    for number, (point, outcome) in enumerate(results, 1):
        for violation in outcome.violations:
            click.echo(f"{point}: {violation}; again: make sweep ONLY={point}")
        if number % 100 == 0:
            click.echo(f"{number} of {total}", err=True)
        yield point, outcome


def report(results: dict[Point, Outcome]) -> str:
    """Return a table by system call: points, how many ended by the kill (137), broken promises."""
    rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for point, outcome in results.items():
        for row in (rows[point.call], rows["all"]):
            row["points"] += 1
            row["killed"] += outcome.status == KILLED
            row["violations"] += len(outcome.violations)
    lines = [f"{'call':12}{'points':>8}{'killed':>8}{'violations':>12}"]
    for call in sorted(rows, key=lambda call: (call == "all", call)):
        row = rows[call]
        lines.append(f"{call:12}{row['points']:8}{row['killed']:8}{row['violations']:12}")
    if missed := [str(point) for point, outcome in results.items() if outcome.status != KILLED]:
        lines.append(f"not reached this time: {', '.join(sorted(missed))}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
