"""The table of verdicts. Callers that write have a transaction open."""

from gatewayd.codes import Code
from gatewayd.jobs.model import DecodeProfile, Verdict
from gatewayd.store.rows import verdict_of
from gatewayd.store.stored import write_json
from gatewayd.store.tables import Tables


class Verdicts:
    """What verification made of each message, by its SHA-256 and how it was decoded."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def all(self) -> dict[tuple[str, str], Verdict]:
        """Return every verdict, by message SHA-256 and `DecodeProfile.key`."""
        rows = self._tables.read("verdicts", "", (), verdict_of)
        return {(row["sha256"], row["reading"]): verdict for row, verdict in rows}

    def put(self, sha256: str, profile: DecodeProfile, verdict: Verdict) -> None:
        """Store a verdict."""
        self._tables.db.execute(
            "INSERT INTO verdicts (sha256, reading, verdict) VALUES (?, ?, ?)"
            " ON CONFLICT (sha256, reading) DO UPDATE SET verdict = excluded.verdict",
            (sha256, profile.key, write_json(verdict)),
        )

    def forget_damage(self, sha256: str | None = None) -> None:
        """Let messages that could not be read be verified again: this one, or all."""
        for (other, profile_key), verdict in self.all().items():
            if verdict.code == Code.SPOOL_DAMAGED and sha256 in (None, other):
                self._tables.db.execute(
                    "DELETE FROM verdicts WHERE sha256 = ? AND reading = ?", (other, profile_key)
                )
