"""The single thread and database connection of the store, and the lock that keeps out other processes.

SQLite before 3.51.3 can corrupt a WAL that two connections write to.

A damaged database is put into quarantine and replaced (see salvage.py), but only at start-up, because what is
in memory depends on what was read. So gatewayd exits if damage shows while it runs, and leaves a mark for the
next start to replace the database even if SQLite's check finds nothing.
"""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeVar

import structlog

from gatewayd.errors import HostError
from gatewayd.jobs.model import DecodeProfile, Verdict
from gatewayd.ota.topic import OtaTopic
from gatewayd.store.database import Database
from gatewayd.store.disk import Ballast, is_damage, is_full, make_directory, sync, translate_error
from gatewayd.store.quarantine import Quarantine
from gatewayd.store.retained import Retention
from gatewayd.store.salvage import SUFFIXES, Replacement, Salvage
from gatewayd.store.spool import Spool
from gatewayd.store.tables import damaged

T = TypeVar("T")

log = structlog.get_logger()

# How often to try to create the ballast again.
_BALLAST_RETRY_S = 60.0


class Store:
    """Durable state, for use from the event loop. Open it with `async with`."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._lock: int | None = None
        self._ballast = Ballast(state_dir)
        self._ballast_due = 0.0
        # The last failures to write messages and records; a successful read does not clear them.
        self._troubles: dict[str, HostError] = {}
        self.damaged = asyncio.Event()
        self.spool: Spool
        self._database: Database | None = None

    async def __aenter__(self) -> Self:
        """Open it, unless it is open. Raises what `open` raises."""
        if self._lock is None:
            await self.open()
        return self

    async def open(self) -> None:
        """Lock the state directory, create what is missing, and open the database.

        Raises HostError `state_dir_locked`, `newer_database`, or one from `disk.translate_error`.
        """
        try:
            await self._in_thread(lambda: self._with_ballast(self._open))
        except BaseException:
            self._unlock()
            self._thread.shutdown()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close it, and release the directory."""
        await self._in_thread(self._close)
        self._thread.shutdown()

    @property
    def trouble(self) -> HostError | None:
        """Why a write failed, until one of the same kind succeeds."""
        return next(iter(self._troubles.values()), None)

    async def run(self, work: Callable[[Database], T]) -> T:
        """Do `work` on the store's thread; on a full disk, with the space of the ballast.

        Failures of disk and database become HostErrors: see `disk.translate_error`.
        """
        return await self._in_thread(lambda: self._with_ballast(lambda: work(self._opened)))

    async def add_release(
        self,
        topic: OtaTopic,
        topic_text: str,
        payload: bytes,
        verdicts: Mapping[DecodeProfile, Verdict] = MappingProxyType({}),
        *,
        is_retained: bool = False,
    ) -> bool:
        """See `Database.add_release`, `RetainedReleases.note`. The ballast is not for messages."""

        def add() -> bool:
            changed = self._opened.add_release(topic, topic_text, payload, verdicts)
            self._opened.retained.note(topic_text, is_retained=is_retained)
            return changed

        return await self._in_thread(add, "messages")

    async def withdraw(self, topic_text: str) -> bool:
        """See `Database.withdraw`."""
        return await self.run(lambda database: database.withdraw(topic_text))

    async def retention(self) -> Retention:
        """See `RetainedReleases.state`."""
        return await self.run(lambda database: database.retained.state())

    async def suspend(self, topics: Collection[str]) -> None:
        """See `RetainedReleases.suspend`."""
        await self.run(lambda database: database.retained.suspend(topics))

    async def forget_retained(self, above_seq: int, but: Collection[str]) -> None:
        """See `RetainedReleases.forget`."""
        await self.run(lambda database: database.retained.forget(above_seq, but))

    async def _in_thread(self, work: Callable[[], T], kind: str = "records") -> T:
        try:
            has_written, result = await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: self._observed(work)
            )
        except (sqlite3.Error, OSError) as error:
            trouble = self._troubles[kind] = translate_error(error, self._state_dir)
            if is_damage(error):
                self.damaged.set()
            raise trouble from error
        if has_written:
            self._troubles.pop(kind, None)
        return result

    def _observed(self, work: Callable[[], T]) -> tuple[bool, T]:
        """Do `work`; return whether it changed the database, and its result."""
        before = self._database.commits if self._database else 0
        result = work()
        return self._database is not None and self._database.commits > before, result

    def _with_ballast(self, work: Callable[[], T]) -> T:
        """Do `work`, which is a transaction, and again without the ballast when the disk is full."""
        try:
            result = work()
        except (sqlite3.Error, OSError) as error:
            if is_damage(error):
                self._mark_damaged()
            if not is_full(error) or not self._ballast.throw_off():
                raise
            self._ballast_due = self._clock() + _BALLAST_RETRY_S
            log.warning("the disk is full: the reserve is used for what must be recorded")
            return work()
        if self._clock() >= self._ballast_due and not self._ballast.is_there:
            self._ballast_due = self._clock() + _BALLAST_RETRY_S
            self._ballast.take()
        return result

    def _open(self) -> None:
        make_directory(self._state_dir, mode=0o700)
        quarantine = Quarantine(self._state_dir / "quarantine")
        path = self._state_dir / "gatewayd.db"
        replacement = Replacement(path, quarantine)
        self._take_lock()
        self._clear_the_way(quarantine, replacement)
        self.spool = Spool(self._state_dir / "spool", quarantine)
        try:
            if replacement.is_ready:
                raise damaged("it was damaged when gatewayd last started")
            self._check_mark()
            self._database = Database(path, self.spool, clock=self._clock)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._replace(replacement, error)
            self._database = Database(path, self.spool, clock=self._clock)

    def _clear_the_way(self, quarantine: Quarantine, replacement: Replacement) -> None:
        """Move away directories that are in the place of our files: SQLite only says "unable to open"."""
        names = [*(f"gatewayd.db{suffix}" for suffix in SUFFIXES), "ballast", self._damage_mark.name]
        names += replacement.names
        if in_the_way := [path for name in names if (path := self._state_dir / name).is_dir()]:
            folder = quarantine.put(in_the_way, "directories were in the place of gatewayd's files")
            log.error(
                "directories in the place of gatewayd's files were moved away",
                code="state_damaged",
                files=[str(path) for path in in_the_way],
                quarantine=str(folder),
            )

    def _replace(self, replacement: Replacement, error: Exception) -> None:
        """Put a damaged database into quarantine, and a new one with what could be read in its place."""
        found = Salvage({}, has_all_marks=False) if replacement.is_ready else replacement.build(self.spool)
        marks = "kept" if found.has_all_marks else "some may be lost: an old signed container could pass"
        self._damage_mark.unlink(missing_ok=True)
        folder = replacement.install(
            f"the database was damaged; the history of jobs is lost, anti-rollback marks: {marks}"
        )
        log.error(
            "the database was damaged and has been replaced; the history of jobs is lost",
            code="database_damaged",
            reason=str(error),
            quarantine=str(folder),
            kept={table: len(rows) for table, rows in found.rows.items()},
            rollback_marks=marks,
        )

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        self._lock = os.open(self._state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(
                f"another gatewayd uses {self._state_dir}",
                code="state_dir_locked",
                hint="stop it, or give this one a state_dir of its own",
            ) from None

    @property
    def _damage_mark(self) -> Path:
        return self._state_dir / "damaged"

    def _check_mark(self) -> None:
        """Raise sqlite3.DatabaseError if damage showed while gatewayd last ran."""
        if self._damage_mark.exists():
            raise damaged("damage showed while gatewayd last ran")

    def _mark_damaged(self) -> None:
        try:
            self._damage_mark.touch()
            sync(self._state_dir)
        except OSError as error:
            log.warning("cannot mark the database as damaged", reason=error.strerror)

    @property
    def _opened(self) -> Database:
        if self._database is None:
            raise RuntimeError("the store is not open")
        return self._database

    def _close(self) -> None:
        self._opened.close()
        self._database = None
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
