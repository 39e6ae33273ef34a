"""The anti-rollback marks of boards, and those of configuration entries (see jobs/rollback_marks.py)."""

from collections.abc import Sequence

from gatewayd.jobs.model import BoardKey
from gatewayd.ota.rules import RollbackMark
from gatewayd.store.rows import board_mark_of
from gatewayd.store.tables import Tables

# A device that reports another id each time must not fill the disk. A board whose mark is dropped inherits
# that of its entry, which is not lower.
KEPT_BOARDS = 2000


class StoredMarks:
    """The table, and the columns of `devices`. Callers that write have a transaction open."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def all(self) -> dict[BoardKey, RollbackMark]:
        """Return every board's mark."""
        return dict(value for _, value in self._tables.read("marks", "ORDER BY rowid", (), board_mark_of))

    def save(self, name: str, keys: Sequence[BoardKey], mark: RollbackMark, *, lowers: bool) -> None:
        """Store a mark for an entry and its board; without `lowers` only where it is higher than before."""
        db, text = self._tables.db, str(mark.timestamp_ms)
        stored = self.all()
        for key in keys:
            if lowers or key not in stored or stored[key].timestamp_ms < mark.timestamp_ms:
                db.execute(
                    "INSERT INTO marks (app_id, kind, board, timestamp_ms, container) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (app_id, kind, board) DO UPDATE SET timestamp_ms = excluded.timestamp_ms,"
                    " container = excluded.container",
                    (key.app_id, key.kind, key.value, text, mark.container_sha256),
                )
        if lowers or self._of_entry(name) < mark.timestamp_ms:
            db.execute(
                "INSERT INTO devices (name, contact_seq, contact_at, mark_timestamp_ms, mark_container)"
                " VALUES (?, 0, '', ?, ?) ON CONFLICT (name) DO UPDATE SET"
                " mark_timestamp_ms = excluded.mark_timestamp_ms, mark_container = excluded.mark_container",
                (name, text, mark.container_sha256),
            )
        db.execute(
            "DELETE FROM marks WHERE rowid NOT IN (SELECT rowid FROM marks ORDER BY rowid DESC LIMIT ?)",
            (KEPT_BOARDS,),
        )

    def forget_entry(self, name: str) -> None:
        """Forget an entry's own mark: the entry is for another application now."""
        self._tables.db.execute(
            "UPDATE devices SET mark_timestamp_ms = NULL, mark_container = NULL WHERE name = ?", (name,)
        )

    def _of_entry(self, name: str) -> int:
        row = self._tables.db.execute(
            "SELECT mark_timestamp_ms FROM devices WHERE name = ?", (name,)
        ).fetchone()
        text = str(row["mark_timestamp_ms"]) if row is not None else ""
        return int(text) if text.isascii() and text.isdecimal() else -1
