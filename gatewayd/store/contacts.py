"""What devices last reported, and how often that is written.

A contact that brings nothing new (the same report, or only another boot) is kept in memory, and written with
the device's next change, or after an hour: a port may flap for years, and SD cards wear. News is written at
once, as long as the device stays within its limit of writes. What a crash loses of it the device reports
again.
"""

from dataclasses import replace

import structlog

from gatewayd.allowance import HOUR_S
from gatewayd.jobs.model import DeviceRecord
from gatewayd.protocol.session import DeviceInfo
from gatewayd.store.limits import WriteLimits
from gatewayd.store.rollback_marks import StoredMarks
from gatewayd.store.rows import device_of
from gatewayd.store.stored import write_json
from gatewayd.store.tables import Tables

log = structlog.get_logger()


class Contacts:
    """The table of devices, without the marks in it."""

    def __init__(self, tables: Tables, marks: StoredMarks, limits: WriteLimits) -> None:
        self._tables = tables
        self._marks = marks
        self._limits = limits
        self._unwritten: dict[str, DeviceRecord] = {}
        self._written_s: dict[str, float] = {}

    def all(self) -> dict[str, DeviceRecord]:
        """Return what every device last reported, by name."""
        return {
            record.name: self._latest(record) for _, record in self._tables.read("devices", "", (), device_of)
        }

    def save(self, name: str, info: DeviceInfo) -> None:
        """Store what a device reported, or keep it in memory until there is a reason to write."""
        old = self._of(name)
        _tell_another_board(name, old, info)
        if old is None or old.info is None or old.info.app_id != info.app_id:
            self._write(name, info)
            return
        is_due = self._limits.now() - self._written_s.get(name, float("-inf")) >= HOUR_S
        if (is_due or _says_more(old.info, info)) and self._limits.take(name):
            self._write(name, info)
            return
        seq, at = self._tables.next_seq, self._tables.now()
        self._unwritten[name] = replace(old, info=info, contact_seq=seq, contact_at=at)

    def write_unwritten(self, name: str) -> None:
        """Write what is only in memory; the caller has a transaction open."""
        record = self._unwritten.get(name)
        if record is not None and record.info is not None:
            self._put(name, record.info, record.contact_seq, record.contact_at)

    def write_all_unwritten(self) -> None:
        """Write all that is only in memory."""
        if self._unwritten:
            with self._tables.transaction():
                for name in list(self._unwritten):
                    self.write_unwritten(name)

    def _of(self, name: str) -> DeviceRecord | None:
        for _, record in self._tables.read("devices", "WHERE name = ?", (name,), device_of):
            return self._latest(record)
        return None

    def _latest(self, stored: DeviceRecord) -> DeviceRecord:
        """Return the record as it is in memory, with the mark as it is stored."""
        latest = self._unwritten.get(stored.name)
        return stored if latest is None else replace(latest, mark=stored.mark)

    def _write(self, name: str, info: DeviceInfo) -> None:
        with self._tables.transaction() as seq:
            for _, old in self._tables.read("devices", "WHERE name = ?", (name,), device_of):
                if old.info is not None and old.info.app_id != info.app_id:
                    self._marks.forget_entry(name)
            self._put(name, info, seq, self._tables.now())

    def _put(self, name: str, info: DeviceInfo, seq: int, at: str) -> None:
        self._tables.after_commit(lambda: self._note_written(name))
        self._tables.db.execute(
            "INSERT INTO devices (name, info, contact_seq, contact_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET info = excluded.info,"
            " contact_seq = excluded.contact_seq, contact_at = excluded.contact_at",
            (name, write_json(info), seq, at),
        )

    def _note_written(self, name: str) -> None:
        self._unwritten.pop(name, None)
        self._written_s[name] = self._limits.now()


def _tell_another_board(name: str, old: DeviceRecord | None, info: DeviceInfo) -> None:
    """Log that another board than before answers; only `device_id:` makes gatewayd refuse it."""
    before = old.info.device_id if old is not None and old.info is not None else None
    if None not in (before, info.device_id) and before != info.device_id:
        log.warning(
            "another board answers than before: was it replaced, or swapped with another?",
            device=name,
            device_id=info.device_id,
            device_id_before=before,
            next="gatewayd serves it all the same; `device_id:` in the configuration would refuse it",
        )


def _says_more(old: DeviceInfo, info: DeviceInfo) -> bool:
    """Whether more than the boot differs."""
    return replace(old, boot_id=None) != replace(info, boot_id=None)
