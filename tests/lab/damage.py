"""Ways in which a card damages the database under a gatewayd that does not run."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from gatewayd.store.salvage import SUFFIXES

# A device and a pause that nothing else has to do with: they must outlive the damage.
SPARE = "spare"
MARK_MS = 1_770_000_000_000


def noticed(state_dir: Path) -> None:
    """Leave what gatewayd leaves when damage shows while it runs. All of it can still be read."""
    _note_spare(state_dir)
    (state_dir / "damaged").touch()


def a_page(state_dir: Path) -> None:
    """Overwrite a page of an index; what was written after that is in SQLite's log alone."""
    path = state_dir / "gatewayd.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = database.execute("PRAGMA page_size").fetchone()
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'jobs_by_device'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    _note_spare(state_dir)


KINDS = {"noticed": noticed, "a-page": a_page}


def _note_spare(state_dir: Path) -> None:
    """Write a mark and a pause, and leave them in the log, as a kill does."""
    files = [state_dir / f"gatewayd.db{suffix}" for suffix in SUFFIXES]
    aside = state_dir.with_name(f"{state_dir.name}-aside")
    with closing(sqlite3.connect(files[0], isolation_level=None)) as database:
        database.execute(
            "INSERT INTO devices (name, contact_seq, contact_at, mark_timestamp_ms, mark_container)"
            " VALUES (?, 0, '', ?, ?)",
            (SPARE, str(MARK_MS), bytes(32)),
        )
        database.execute("INSERT INTO pauses (name, since, by) VALUES (?, '', 'ann')", (SPARE,))
        shutil.copytree(state_dir, aside)
    for file in files:
        file.unlink(missing_ok=True)
        if (aside / file.name).exists():
            shutil.copy(aside / file.name, file)
    shutil.rmtree(aside)
