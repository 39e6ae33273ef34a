"""The table of releases; their messages are in the spool."""

from collections.abc import Callable

from gatewayd.jobs.model import Release
from gatewayd.ota.topic import OtaTopic
from gatewayd.store.rows import release_of
from gatewayd.store.spool import Spool
from gatewayd.store.tables import Tables


class Releases:
    """The table. Each method that changes something is one transaction."""

    def __init__(self, tables: Tables, spool: Spool) -> None:
        self._tables = tables
        self._spool = spool

    def all(self) -> list[Release]:
        """All releases, oldest first."""
        return [release for _, release in self._tables.read("releases", "ORDER BY seq", (), release_of)]

    def add(
        self,
        topic: OtaTopic,
        topic_text: str,
        payload: bytes,
        *,
        alone: bool,
        from_line: str,
        before: Callable[[str], None],
    ) -> bool:
        """See `Database.add_release`; `before` is called with the SHA-256 before the release is written."""
        db = self._tables.db
        sha256, is_new_file = self._spool.write(payload)
        with self._tables.transaction() as seq:
            newest = db.execute(
                "SELECT sha256 FROM releases WHERE topic = ? ORDER BY seq DESC LIMIT 1", (topic_text,)
            ).fetchone()
            if not (is_new_file or alone) and newest is not None and newest["sha256"] == sha256:
                return False
            if alone:
                db.execute("DELETE FROM releases WHERE topic = ?", (topic_text,))
            before(sha256)
            db.execute(
                "INSERT INTO releases"
                " (seq, topic, app_id, major, minor, channel, sha256, size, received_at, from_line)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (topic, sha256) DO UPDATE SET seq = excluded.seq,"
                " received_at = excluded.received_at, from_line = excluded.from_line",
                (
                    seq,
                    topic_text,
                    topic.app_id,
                    str(topic.major),
                    str(topic.minor),
                    topic.channel,
                    sha256,
                    len(payload),
                    self._tables.now(),
                    from_line,
                ),
            )
            return True

    def withdraw(self, topic_text: str) -> bool:
        """Withdraw all releases of a topic. False: there were none."""
        with self._tables.transaction():
            return self._tables.db.execute("DELETE FROM releases WHERE topic = ?", (topic_text,)).rowcount > 0

    def drop(self, ids: list[int]) -> None:
        """Remove releases by id."""
        with self._tables.transaction():
            self._tables.db.executemany("DELETE FROM releases WHERE id = ?", [(id_,) for id_ in ids])
