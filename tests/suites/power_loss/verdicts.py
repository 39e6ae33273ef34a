"""Whether a state of the disk keeps what was promised: the store opens it, and the judge looks."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from lab.history import Event, Violation, judge
from lab.recorder import look_into

from gatewayd.store.store import Store
from suites.power_loss.disk import Disk, Said, State
from suites.power_loss.workload import STATE, Armed, event_of


def lay_down(state: State, folder: Path) -> None:
    """Write a state into an empty folder."""
    for name, content in state.items():
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_bytes(content)


def faults(disk: Disk, cut: int, folder: Path, before: Sequence[Event], *, is_damaged: bool) -> list[str]:
    """Open what a power cut left in `folder`; return what was promised and is not so."""
    state_dir = folder / STATE
    try:
        open_and_close(state_dir)
    except Exception as error:  # noqa: BLE001 - whatever it is, gatewayd would not start
        return [f"does not open: {error!r}"]
    if not is_damaged and (state_dir / "quarantine").exists():
        return ["something was called damaged"]
    return judged(disk, cut, state_dir, before)


def judged(disk: Disk, cut: int, state_dir: Path, before: Sequence[Event]) -> list[str]:
    """Judge the store in `state_dir`. What was under way may have happened or not."""
    seen = look_into(state_dir)
    if seen is None:
        return ["it is damaged after the start"]
    told_so_far = [(at, event_of(op.what)) for at, op in enumerate(disk.ops) if isinstance(op, Said)]
    armed = {event.job for at, event in told_so_far if isinstance(event, Armed) and at < cut}
    if forgotten := sorted(armed & _activating_unarmed(state_dir)):
        return [f"lost: job {job} was armed, and its image may be tried twice" for job in forgotten]
    said = [(at, event) for at, event in told_so_far if not isinstance(event, Armed)]
    history = [*before, *(event for at, event in said if at < cut)]
    next_one = [event for at, event in said if at >= cut][:1]
    told = min((judge([*history, *more, seen]) for more in ([], next_one)), key=len)
    return [str(violation) for violation in _without_doubt(told)]


def _activating_unarmed(state_dir: Path) -> set[int]:
    with closing(sqlite3.connect(state_dir / "gatewayd.db")) as database:
        return {
            row[0]
            for row in database.execute("SELECT id FROM jobs WHERE state = 'activating' AND NOT is_armed")
        }


def _without_doubt(told: Sequence[Violation]) -> list[Violation]:
    """Leave out what a workload without devices cannot show."""
    return [violation for violation in told if violation.rule != "early_ack"]


def open_and_close(state_dir: Path) -> None:
    """Do what a start does, without an event loop for each of thousands."""
    store = Store(state_dir)
    store._open()  # noqa: SLF001
    with closing(store._opened) as database:  # noqa: SLF001
        database.recover()
        database.sweep_spool()
    store._unlock()  # noqa: SLF001
