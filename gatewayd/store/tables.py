"""The connection to the database: transactions, and reads that tolerate an unreadable value."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog

from gatewayd.store.rows import Read
from gatewayd.store.schema import prepare
from gatewayd.timestamps import utc_now

T = TypeVar("T")

log = structlog.get_logger()


class Tables:
    """One connection. `now` returns the time as text, for the stored timestamps."""

    def __init__(self, path: Path, now: Callable[[], str] | None = None) -> None:
        self.now = now or utc_now
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.row_factory = sqlite3.Row
        # Text that a failing card has changed may not be UTF-8: that must not fail the query for other rows.
        self.db.text_factory = lambda content: content.decode(errors="replace")
        self._logged: set[tuple[str, str, tuple[str, ...]]] = set()
        self.commits = 0  # transactions that changed something
        self._after_commit: list[Callable[[], None]] = []
        try:
            prepare(self.db, path)
            _check(self.db)
        except BaseException:
            self.db.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[int]:
        """One transaction; yields the next value of the counter that orders events.

        One that changes nothing writes nothing, not even the counter.
        """
        self._after_commit = []
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute("UPDATE counter SET seq = seq + 1")
            before = self.db.total_changes
            yield self._seq()
            if self.db.total_changes == before:
                self.db.execute("ROLLBACK")
                return
            self.db.execute("COMMIT")
            self.commits += 1
            for step in self._after_commit:
                step()
        except BaseException:
            if self.db.in_transaction:  # some failures, such as a full disk, have already rolled back
                self.db.execute("ROLLBACK")
            raise

    def after_commit(self, step: Callable[[], None]) -> None:
        """Call `step` once the transaction that is open is durable; not at all if it fails."""
        self._after_commit.append(step)

    @property
    def next_seq(self) -> int:
        """What the next transaction would get: for an event in memory, later than all that are stored."""
        return self._seq() + 1

    def _seq(self) -> int:
        return int(self.db.execute("SELECT seq FROM counter").fetchone()[0])

    def mend_counter(self) -> None:
        """Raise the counter above every stored event, whatever it says."""
        (highest,) = self.db.execute(
            "SELECT ifnull(max(seq), 0) FROM (SELECT seq FROM releases UNION SELECT contact_seq FROM devices"
            " UNION SELECT updated_seq FROM jobs) WHERE typeof(seq) = 'integer'"
        ).fetchone()
        found = [row[0] for row in self.db.execute("SELECT seq FROM counter")]
        if not (len(found) == 1 and isinstance(found[0], int) and found[0] >= highest):
            one = "UPDATE counter SET seq = ?" if found else "INSERT INTO counter (seq) VALUES (?)"
            self.db.execute(one, (highest,))

    def read(
        self, table: str, rest: str, values: tuple[Any, ...], convert: Callable[[sqlite3.Row], Read[T | None]]
    ) -> Iterator[tuple[sqlite3.Row, T]]:
        """Yield each usable row of a table with its value. What cannot be read is logged."""
        for row in self.db.execute(f"SELECT * FROM {table} {rest}", values).fetchall():  # noqa: S608 - constants
            read = convert(row)
            if read.unread:
                self._log_unread(table, row, read.unread, is_lost=read.value is None)
            if read.value is not None:
                yield row, read.value

    def _log_unread(self, table: str, row: sqlite3.Row, unread: tuple[str, ...], *, is_lost: bool) -> None:
        """Log what cannot be read, but only the first time: the tables are read again and again."""
        named = "/".join(str(row[at])[:80] for at in range(2 if table in ("verdicts", "attempts") else 1))
        if (table, named, unread) not in self._logged:
            self._logged.add((table, named, unread))
            log.error(
                "a stored value cannot be read; it is ignored"
                if is_lost
                else "part of a stored value is lost",
                code="stored_unreadable",
                table=table,
                row=named,
                reason="; ".join(unread),
            )


def _check(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError if the file is damaged. Takes a few ms for a few MiB."""
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise damaged(str(answer))


def damaged(why: str) -> sqlite3.DatabaseError:
    """Return the error that SQLite itself raises when it notices damage."""
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
