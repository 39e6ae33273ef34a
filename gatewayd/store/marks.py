"""The anti-rollback mark of a device, as it is stored: what it means is in `ota.rules`.

It lies in two columns of the device's row. The timestamp is text, like all numbers that need 64 bits.
"""

import sqlite3

from gatewayd.ota.rules import RollbackMark
from gatewayd.store.stored import Read


def save_mark(database: sqlite3.Connection, device: str, mark: RollbackMark) -> None:
    """Move a device's mark, within a transaction; a device that never answered has a row from then on."""
    database.execute(
        "INSERT INTO devices (name, contact_seq, contact_at, mark_timestamp_ms, mark_container)"
        " VALUES (?, 0, '', ?, ?) ON CONFLICT (name) DO UPDATE SET"
        " mark_timestamp_ms = excluded.mark_timestamp_ms,"
        " mark_container = excluded.mark_container",
        (device, str(mark.timestamp_ms), mark.container_sha256),
    )


def mark_of_row(timestamp_ms: object, container: object) -> Read[RollbackMark | None]:
    """Read a mark. Without its container it still refuses what is not newer."""
    if timestamp_ms is None:
        return Read(None)
    text = str(timestamp_ms)
    if not (text.isascii() and text.isdecimal()):
        return Read(None, (f"anti-rollback mark: expected a timestamp, got {text[:40]!r}",))
    if not isinstance(container, bytes):
        return Read(RollbackMark(int(text), b""), ("anti-rollback mark: its container is not readable",))
    return Read(RollbackMark(int(text), container))
