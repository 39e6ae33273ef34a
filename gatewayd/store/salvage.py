"""Replace a damaged database with one that has what could be read of it.

What can still be read and depends on nothing else is kept: which messages are the releases, what devices
reported, anti-rollback marks, and what is paused. Jobs are not: their history is lost, and what was under way
is learnt from the devices, whose own record of what they tried keeps a reverted image from being tried again.

At whatever moment a kill or a power cut comes, either the old database is there, whole with its log of
changes, or all of the new one:

1. the new one is built beside the old one (`gatewayd.db.new`), filled, closed, so that it is one file, and
   synced; what a kill leaves of it is removed by the next start, which builds it again;
2. it is renamed to `gatewayd.db.rebuilt`: from here on a start ignores the old one;
3. the old one and its log, which SQLite would apply to the new one, go into quarantine;
4. the new one is renamed to `gatewayd.db`.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.store.database import Database
from gatewayd.store.disk import sync
from gatewayd.store.quarantine import Quarantine
from gatewayd.store.rows import Read, board_mark_of, device_of, mark_of_row, pause_in, release_of
from gatewayd.store.spool import Spool

SUFFIXES = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a damaged database that is read together, and the value each row must parse to."""

    table: str
    columns: str
    check: Callable[[sqlite3.Row], Read[Any]]
    has_marks: bool = False


# Marks a second time on their own: they may be readable where the rest of a device's row is not.
_PARTS = (
    _Part("releases", "*", release_of),
    _Part("devices", "*", device_of),
    _Part(
        "devices",
        "name, 0 AS contact_seq, '' AS contact_at, mark_timestamp_ms, mark_container",
        lambda row: mark_of_row(row["mark_timestamp_ms"], row["mark_container"]),
        has_marks=True,
    ),
    _Part("marks", "*", board_mark_of, has_marks=True),
    _Part("pauses", "*", pause_in),
)


@dataclass(frozen=True, slots=True)
class Salvage:
    """Rows by table, and whether every anti-rollback mark could be read."""

    rows: dict[str, list[dict[str, Any]]]
    has_all_marks: bool


class Replacement:
    """The new database beside the one at `path`."""

    def __init__(self, path: Path, quarantine: Quarantine) -> None:
        self._path = path
        self._quarantine = quarantine
        self._draft = path.with_name(f"{path.name}.new")
        self._rebuilt = path.with_name(f"{path.name}.rebuilt")

    @property
    def names(self) -> list[str]:
        """The names of its files."""
        return [self._rebuilt.name, *(f"{self._draft.name}{suffix}" for suffix in SUFFIXES)]

    @property
    def is_ready(self) -> bool:
        """Whether it is complete and only has to be installed."""
        return self._rebuilt.exists()

    def build(self, spool: Spool) -> Salvage:
        """Build it from what can be read of the old one, which is not changed."""
        for suffix in SUFFIXES:
            self._draft.with_name(self._draft.name + suffix).unlink(missing_ok=True)
        found = salvage(self._path)
        with closing(Database(self._draft, spool)) as database:
            database.adopt(found.rows)
            database.fold()
        sync(self._draft)
        self._draft.rename(self._rebuilt)
        sync(self._path.parent)
        return found

    def install(self, why: str) -> Path:
        """Replace the old one; return where the old one is now."""
        names = [self._path.with_name(self._path.name + suffix) for suffix in SUFFIXES]
        old = [path for path in names if path.exists()]  # none if a kill came after they were moved
        folder = self._quarantine.put(old, why) if old else self._quarantine.directory
        self._rebuilt.rename(self._path)
        sync(self._path.parent)
        return folder


def salvage(path: Path) -> Salvage:
    """Read what can be read of a damaged database, without changing it."""
    rows: dict[str, list[dict[str, Any]]] = {part.table: [] for part in _PARTS}
    has_all_marks = True
    for part in _PARTS:
        found = rows[part.table]
        # From both ends: rows before a bad page count, and rows after it.
        for order in ("ASC", "DESC"):
            try:
                for row, is_good in _read(path, part, order):
                    has_all_marks = has_all_marks and (is_good or not part.has_marks)
                    if row is not None and row not in found:
                        found.append(row)
                break
            except (sqlite3.Error, OSError):
                has_all_marks = has_all_marks and not part.has_marks
    return Salvage(rows, has_all_marks)


def _read(path: Path, part: _Part, order: str) -> Iterator[tuple[dict[str, Any] | None, bool]]:
    """Yield rows (None: not usable), each with whether all of it is readable."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda content: content.decode(errors="replace")
        query = f"SELECT {part.columns} FROM {part.table} ORDER BY rowid {order}"  # noqa: S608 - constants
        for row in connection.execute(query):
            try:
                read = part.check(row)
            except (KeyError, IndexError):  # damage may be in the names of columns
                yield None, False
                continue
            yield (None if read.value is None else dict(row)), not read.unread
