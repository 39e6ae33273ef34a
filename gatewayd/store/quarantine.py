"""Where damaged files go: out of the way, and not lost for whoever wants to look at them.

Of a damaged database what can still be read and rests on nothing else is taken over: which messages are the
releases, what devices said, their anti-rollback marks, and what is paused. Jobs are not: their history is
lost, and what is under way is found out by asking the devices, whose own record of what they tried keeps a
reverted image from being tried again.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatewayd.store.rows import device_of, release_of

# Enough to see whether it happens again and again; not so many that they fill the disk.
KEPT = 3
SUFFIXES = ("", "-wal", "-shm", "-journal")
WHY = "why.txt"
# Tables that are taken over, and what a row of each must be able to become.
_SALVAGED: dict[str, Callable[[sqlite3.Row], Any]] = {
    "releases": release_of,
    "devices": device_of,
    "pauses": lambda row: (str(row["name"]), str(row["since"]), str(row["by"])),
}


@dataclass(frozen=True, slots=True)
class Salvage:
    """Rows by table, and whether all of a table could be read."""

    rows: dict[str, list[dict[str, Any]]]
    is_whole: bool


class Quarantine:
    """The directory; made when it is needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, files: Sequence[Path], why: str) -> Path:
        """Move files, of those that are there, into a folder of their own; return that.

        `why` is kept with them, for the doctor to tell until a person deletes the folder.
        """
        folder = self._new_folder()
        for file in files:
            if file.exists() or file.is_symlink():
                shutil.move(file, folder / file.name)
        with contextlib.suppress(OSError):  # a full disk must not keep a damaged file in its place
            (folder / WHY).write_text(f"{why}\n")
        others = sorted(other for other in self.directory.iterdir() if other != folder)
        for old in others[: max(0, len(others) + 1 - KEPT)]:
            shutil.rmtree(old, ignore_errors=True)
        return folder

    def _new_folder(self) -> Path:
        """Make a folder named by the time, which says little where the clock is wrong, but is its own."""
        while True:
            folder = self.directory / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            try:
                folder.mkdir(mode=0o700, parents=True)
            except FileExistsError:
                continue
            return folder


def salvage(path: Path) -> Salvage:
    """Read what can be read of a damaged database, and change nothing in it."""
    rows: dict[str, list[dict[str, Any]]] = {}
    is_whole = True
    for table, check in _SALVAGED.items():
        rows[table] = []
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                connection.row_factory = sqlite3.Row
                for row in _good_rows(connection, table, check):  # what comes before a bad page counts
                    rows[table].append(row)
        except (sqlite3.Error, OSError, ValueError, TypeError, KeyError):
            is_whole = False
    return Salvage(rows, is_whole)


def _good_rows(
    connection: sqlite3.Connection, table: str, check: Callable[[sqlite3.Row], Any]
) -> Iterator[dict[str, Any]]:
    for row in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608 - our own constant
        check(row)
        yield dict(row)
