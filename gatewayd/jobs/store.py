"""The one thread in front of the one database connection, and the lock that makes it the only one.

SQLite before 3.51.3 can corrupt a WAL that two connections write to.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from gatewayd.errors import HostError
from gatewayd.jobs.database import Database
from gatewayd.jobs.spool import Spool
from gatewayd.ota.topic import OtaTopic

T = TypeVar("T")


class Store:
    """Durable truth, for the event loop. Open it with `async with`."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._lock: int | None = None
        self.is_new = False  # whether the database was made by this start
        self.spool: Spool
        self._database: Database

    async def __aenter__(self) -> Self:
        """Open, create what is missing, lock. Raises HostError `state_dir_locked` or `storage_failed`."""
        try:
            await self._in_thread(self._open)
        except BaseException:
            self._unlock()
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._in_thread(self._close)
        self._thread.shutdown()

    async def run(self, work: Callable[[Database], T]) -> T:
        """Do `work` on the store's thread.

        Failures of disk and database become HostError `storage_failed`.
        """
        return await self._in_thread(lambda: work(self._database))

    async def add_release(self, topic: OtaTopic, topic_text: str, payload: bytes) -> bool:
        """See `Database.add_release`."""
        return await self.run(lambda database: database.add_release(topic, topic_text, payload))

    async def withdraw(self, topic_text: str) -> bool:
        """See `Database.withdraw`."""
        return await self.run(lambda database: database.withdraw(topic_text))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise HostError(
                f"cannot read or write {self._state_dir}: {error}",
                code="storage_failed",
                hint="is the disk full, read-only, or not the daemon's?",
            ) from error

    def _open(self) -> None:
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(
                f"another gatewayd uses {self._state_dir}",
                code="state_dir_locked",
                hint="stop it, or give this one a state_dir of its own",
            ) from None
        self.spool = Spool(self._state_dir / "spool")
        path = self._state_dir / "gatewayd.db"
        self.is_new = not path.exists()
        self._database = Database(path, self.spool)

    def _close(self) -> None:
        self._database.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
