"""Which releases the broker is known to have retained, and which it was found not to have any more.

mqtt/retained_check.py has the rule. Nothing is removed here: what is suspended keeps its file, and goes on
when its message comes again.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from gatewayd.jobs.eligibility import is_pushed
from gatewayd.jobs.model import Release
from gatewayd.store.rows import release_of
from gatewayd.store.tables import Tables

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Retention:
    """What we know of the broker's copies.

    `store_id` names this database, and no other. `retained`: topics whose last message is known to have been
    retained, with its sequence. `newest_seq`: the sequence of the last release of all.
    """

    store_id: str
    retained: Mapping[str, int]
    newest_seq: int


class RetainedReleases:
    """Two columns of `releases`, and the identity of the database. Each public method is one transaction."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def note(self, topic: str, *, is_retained: bool) -> None:
        """The message that is the topic's last release has come, perhaps once more."""
        last = self._last().get(topic)
        if last is None or (not last.suspended_at and (last.retained or not is_retained)):
            return
        with self._tables.transaction():
            self._tables.db.execute(
                "UPDATE releases SET retained = ?, suspended_at = '' WHERE id = ?", (is_retained, last.id)
            )
        if last.suspended_at:
            log.info("release is no longer suspended: its message has come again", topic=topic)

    def state(self) -> Retention:
        """What is known of the broker's copies."""
        last = self._last()
        return Retention(
            self._identity(),
            {topic: one.seq for topic, one in last.items() if one.retained and not one.suspended_at},
            max((one.seq for one in last.values()), default=0),
        )

    def suspend(self, topics: Collection[str]) -> None:
        """Suspend all releases of these topics."""
        with self._tables.transaction():
            self._tables.db.executemany(
                "UPDATE releases SET suspended_at = ? WHERE topic = ? AND suspended_at = ''",
                [(self._tables.now(), topic) for topic in topics],
            )

    def forget(self, above_seq: int, but: Collection[str]) -> None:
        """Forget that releases after `above_seq` were retained, but of these topics."""
        doubtful = [
            (one.id,)
            for topic, one in self._last().items()
            if one.retained and one.seq > above_seq and topic not in but
        ]
        if doubtful:
            with self._tables.transaction():
                self._tables.db.executemany("UPDATE releases SET retained = 0 WHERE id = ?", doubtful)

    def _last(self) -> dict[str, Release]:
        """The last release of each topic of the broker."""
        rows = self._tables.read("releases", "ORDER BY seq", (), release_of)
        return {release.topic: release for _, release in rows if not is_pushed(release.topic)}

    def _identity(self) -> str:
        row = self._tables.db.execute("SELECT id FROM identity").fetchone()
        if row is not None:
            return str(row["id"])
        made = secrets.token_hex(8)
        with self._tables.transaction():
            self._tables.db.execute("INSERT INTO identity (id) VALUES (?)", (made,))
        return made
