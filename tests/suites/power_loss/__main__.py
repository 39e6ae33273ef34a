"""`make power-loss`: what a power cut may leave of the store at any moment, opened and judged.

The system calls of real lives are recorded and played to a model of a disk that keeps what was synced, and of
the rest whatever it likes (see disk.py). The same with syncs left out comes last: states that break a
promise must be found there, or nothing would be.
"""

import argparse
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import click
import structlog
from lab.damage import KINDS as DAMAGE
from lab.damage import MARK_MS, SPARE
from lab.history import Event
from lab.recorder import look_into

from suites.power_loss.daemon import starts
from suites.power_loss.disk import KINDS, Disk, Said, State, Sync, state_at
from suites.power_loss.recording import record
from suites.power_loss.verdicts import faults, judged, lay_down
from suites.power_loss.workload import STATE, Armed, event_of

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a random name in it
# Enough states of a life with a sync left out to meet the moment at which it is missed.
CONTROL_STATES = 400
SHOWN = 10


@dataclass(frozen=True)
class Recorded:
    """A life: what the disk was told, and what had been promised before."""

    name: str
    disk: Disk
    before: Sequence[Event]
    is_damaged: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(prog="make power-loss", description=__doc__)
    parser.add_argument("--states", type=int, default=20_000, help="how many, of all lives")
    parser.add_argument("--daemons", type=int, default=40, help="in how many of them the daemon is started")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="gatewayd-power-loss-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        status = run(folder, options, begun)
    finally:
        shutil.rmtree(folder)
    return status


def run(folder: Path, options: argparse.Namespace, begun: float) -> int:
    lives = recorded(folder / "lives")
    random = Random(options.seed)
    found: Counter[str] = Counter()
    tried = started = 0
    for life in lives:
        share = options.states // len(lives)
        for state, cut, kind in states(life.disk, share, random):
            tried += 1
            is_started = random.random() * options.states < options.daemons
            started += is_started
            for fault in tell(life, state, cut, folder / "state", with_daemon=is_started):
                found[f"{life.name}, {kind}, at {cut}: {fault}"] += 1
    caught = {
        name: is_caught(life, folder / "state", random) for name, life in controls(lives, folder).items()
    }
    for fault, count in found.most_common(SHOWN):
        click.echo(f"{count} x {fault}")
    click.echo(f"states tried: {tried}, of them with the daemon: {started}")
    click.echo(f"faults found: {found.total()}")
    for name, states_needed in caught.items():
        told = f"caught after {states_needed} states" if states_needed else "NOT CAUGHT"
        click.echo(f"control, {name}: {told}")
    click.echo(f"{time.monotonic() - begun:.0f} s")
    return 1 if found or not all(caught.values()) else 0


def recorded(folder: Path) -> list[Recorded]:
    """Record a first life, a second one, and one for each kind of damage that it begins with."""
    fresh, lives = folder / "fresh", []
    fresh.mkdir(parents=True)
    lives.append(Recorded("first", record(fresh, "first", "FULL"), ()))
    before = promised(lives[0].disk)
    for damage in ("", *DAMAGE):
        place = folder / (damage or "again")
        shutil.copytree(fresh, place)
        events = list(before)
        if damage:
            events.append(damaged(place / STATE, damage))
        disk = record(place, "again", "FULL")
        lives.append(Recorded(damage or "again", disk, events, is_damaged=bool(damage)))
    return lives


def damaged(state_dir: Path, kind: str) -> Event:
    """Damage a database; return what was in it, without its jobs, which are lost with it."""
    before = look_into(state_dir)
    assert before is not None
    DAMAGE[kind](state_dir)
    pauses = before.pauses | {SPARE}
    return replace(before, marks=before.marks | {(SPARE, MARK_MS)}, pauses=pauses, is_replaced=True)


def promised(disk: Disk) -> list[Event]:
    told = [event_of(op.what) for op in disk.ops if isinstance(op, Said)]
    return [event for event in told if not isinstance(event, Armed)]


def states(disk: Disk, count: int, random: Random) -> Iterator[tuple[State, int, str]]:
    """Yield states that differ from each other, at random moments, of each kind equally often."""
    seen: set[int] = set()
    for number in range(count):
        cut, kind = random.randint(0, len(disk.ops)), KINDS[number % len(KINDS)]
        state = state_at(disk, cut, kind, random)
        mark = hash((cut, *state.items()))
        if mark not in seen:
            seen.add(mark)
            yield state, cut, kind


def tell(life: Recorded, state: State, cut: int, place: Path, *, with_daemon: bool = False) -> list[str]:
    """Return what is wrong with a state."""
    place.mkdir()
    try:
        lay_down(state, place)
        if with_daemon:
            return starts(place, place / STATE) or judged(life.disk, cut, place / STATE, life.before)
        return faults(life.disk, cut, place, life.before, is_damaged=life.is_damaged)
    finally:
        shutil.rmtree(place)


def controls(lives: Sequence[Recorded], folder: Path) -> dict[str, Recorded]:
    """Return lives in which something is not synced."""
    life, directories = lives[0], lives[0].disk.directories
    files = [op for op in life.disk.ops if not (isinstance(op, Sync) and op.file not in directories)]
    names = [op for op in life.disk.ops if not (isinstance(op, Sync) and op.file in directories)]
    made = {
        "no fsync of files": replace(life, disk=replace(life.disk, ops=files)),
        "no fsync of directories": replace(life, disk=replace(life.disk, ops=names)),
    }
    for synchronous in ("NORMAL", "OFF"):
        place = folder / synchronous
        place.mkdir()
        made[f"synchronous = {synchronous}"] = Recorded(synchronous, record(place, "first", synchronous), ())
    return made


def is_caught(life: Recorded, place: Path, random: Random) -> int:
    """Return how many states it took to find a fault; 0: none was found."""
    for number, (state, cut, _) in enumerate(states(life.disk, CONTROL_STATES, random), 1):
        if tell(life, state, cut, place):
            return number
    return 0


if __name__ == "__main__":
    sys.exit(main())
