"""A store's life, each step tried until it succeeds, as the daemon does; and what must be true after it.

Theory of operation. Every step ends by succeeding, so however often and wherever the disk failed, what is
stored at the end must be the same as without failures: a step that said it was done and was not would show.
"""

import asyncio
import hashlib
import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.jobs import TOPIC, TOPIC_TEXT, an_info, genuine, message, standard_reading

from gatewayd.codes import meaning
from gatewayd.errors import HostError
from gatewayd.jobs.model import CreateJob
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.rules import RollbackMark
from gatewayd.store.database import Database
from gatewayd.store.disk import BALLAST_BYTES
from gatewayd.store.store import Store
from suites.faults.tracer import Point, Tracer, calls_in, has_failed

FIRST, SECOND = message(2, b"first" * 2000), message(3, b"second" * 2000)
# After how many failures of one step a lasting fault is mended; none may need more tries after that.
MENDED_AFTER = 2
TRIES = 5

Step = Callable[[Store], Awaitable[Any]]


@dataclass
class Account:
    """What became of a life with a fault: the step that it showed in, what was said of it, what is wrong."""

    hit: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)  # before it was closed
    failed_steps: list[str] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    stored: dict[str, Any] = field(default_factory=dict)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _in_database(work: Callable[[Database], Any]) -> Step:
    return lambda store: store.run(work)


def _move(state: JobState) -> Step:
    return _in_database(lambda db: db.move_job(1, state))


_ORDER = CreateJob("pump-1", 1, _digest(FIRST), "4.3.1", "4.3.2", JobState.QUEUED, None, "")
_MARK = RollbackMark(77, b"\x01" * 32)
STEPS: dict[str, Step] = {
    "recover": _in_database(lambda db: db.recover()),
    "message": lambda store: store.add_release(TOPIC, TOPIC_TEXT, FIRST),
    "verdict": _in_database(lambda db: db.save_verdict(_digest(FIRST), standard_reading(), genuine(2))),
    "contact": _in_database(lambda db: db.save_contact("pump-1", an_info())),
    "job": _in_database(lambda db: db.create_job(_ORDER)),
    "transferring": _move(JobState.TRANSFERRING),
    "staged": _move(JobState.STAGED),
    "activating": _move(JobState.ACTIVATING),
    "succeeded": _in_database(lambda db: db.succeed(1, _MARK)),
    "next message": lambda store: store.add_release(TOPIC, TOPIC_TEXT, SECOND),
    "drop": _in_database(lambda db: db.drop_releases([1])),
    "sweep": _in_database(lambda db: db.sweep_spool()),
    "withdraw": lambda store: store.withdraw("/a/nothing/u/1.0"),
    "pause": _in_database(lambda db: db.pause("pump-1", "root")),
}


class Life:
    """One life in `folder`, with a fault at `point` or with none; `make_store` is another for a control."""

    def __init__(self, folder: Path, point: Point | None, make_store: Callable[..., Store] = Store) -> None:
        self._state_dir = folder / "state"
        self._log = folder / "strace"
        self._point = point
        self._make_store = make_store
        self._tracer: Tracer | None = None
        self.account = Account()

    async def live(self) -> Account:
        """Return the account, with what is stored at the end as another process finds it."""
        store = await self._open()
        for name, step in STEPS.items():
            await self._insist(name, lambda step=step: step(store))  # type: ignore[misc]  # mypy sees no default
        self.account.calls = calls_in(self._log)
        await self._close(store)
        self._mend()
        self.account.hit = self.account.hit or (self._point is not None and has_failed(self._log))
        async with Store(self._state_dir) as store:
            await self._look(store)
        return self.account

    async def _open(self) -> Store:
        opened: list[Store] = []

        async def open_once() -> None:
            # Time flies, so that the ballast is wanted back at once.
            store = self._make_store(self._state_dir, clock=itertools.count(0, 100).__next__)
            self._trace(store, again=bool(self.account.failed_steps))
            await store.open()
            opened.append(store)

        await self._insist("open", open_once)
        return opened[0]

    async def _insist(self, name: str, step: Callable[[], Awaitable[Any]]) -> None:
        for number in range(TRIES):
            if number == MENDED_AFTER:
                self._mend()
            try:
                await step()
            except HostError as error:
                self._note(name, error)
            else:
                return
        self.account.wrong.append(f"{name}: does not recover")

    def _note(self, name: str, error: HostError) -> None:
        self.account.failed_steps.append(name)
        self.account.codes.add(error.code)
        if not meaning(error.code).is_disk:
            self.account.wrong.append(f"{name}: {error.code} is not waited for ({error})")

    async def _close(self, store: Store) -> None:
        try:
            await store.close()
        except HostError as error:
            self._note("close", error)

    def _trace(self, store: Store, *, again: bool) -> None:
        """Trace the store's thread. One opened once more has a disk that works, or fails from the start."""
        point = self._point
        if again and point is not None:
            self._mend()
            self.account.hit = self.account.hit or has_failed(self._log)
            if not point.lasting or len(self.account.failed_steps) >= MENDED_AFTER:
                return
            point = Point(point.call, 1, point.error, lasting=True)
        self._tracer = Tracer(store, self._log, point)

    def _mend(self) -> None:
        if self._tracer is not None:
            self._tracer.mend()

    async def _look(self, store: Store) -> None:
        jobs = await store.run(Database.jobs)
        devices = await store.run(Database.devices)
        spool = self._state_dir / "spool"
        ballast = self._state_dir / "ballast"
        self.account.stored = {
            "releases": [(one.topic, one.sha256) for one in await store.run(Database.releases)],
            "verdicts": sorted(await store.run(Database.verdicts)),
            "devices": {name: record.mark for name, record in devices.items()},
            "jobs": [(job.id, job.device, job.state) for job in jobs],
            "pauses": sorted(await store.run(Database.pauses)),
            "spool": {file.name: _digest(file.read_bytes()) for file in spool.iterdir() if file.is_file()},
            "half-written": len(list((spool / "tmp").iterdir())),
            "quarantine": (self._state_dir / "quarantine").exists(),
            "ballast": ballast.exists() and ballast.stat().st_size == BALLAST_BYTES,
        }


def live(folder: Path, point: Point | None, make_store: Callable[..., Store] = Store) -> Account:
    """Live one life in a loop of its own."""
    with closing(sqlite3.connect(":memory:")) as database:  # reads /dev/urandom once in each process, so now
        database.execute("SELECT random()")
    return asyncio.run(Life(folder, point, make_store).live())
