"""The stored attempts of each job.

A failure identical to the one before is only counted in memory, and written with the next change: a port may
be missing for years, and SD cards wear.
"""

from dataclasses import replace

from gatewayd.jobs.model import AttemptRecord
from gatewayd.store.rows import attempt_of
from gatewayd.store.schema import ENDED_STATES
from gatewayd.store.stored import write_json
from gatewayd.store.tables import Tables

# Attempts kept for each job.
KEPT_ATTEMPTS = 100


class Attempts:
    """The table. Callers that write have a transaction open."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        # Attempts that were counted but not written yet, by job.
        self._counted: dict[int, AttemptRecord] = {}

    @property
    def unwritten(self) -> list[int]:
        """The jobs with attempts that were only counted."""
        return list(self._counted)

    def of(self, job_id: int) -> list[AttemptRecord]:
        """The attempts of a job that are kept, oldest first."""
        rows = self._tables.read("attempts", "WHERE job_id = ? ORDER BY number", (job_id,), attempt_of)
        kept = [attempt for _, attempt in rows]
        return [*kept[:-1], self._counted[job_id]] if job_id in self._counted else kept

    def count(self, job_id: int, attempt: AttemptRecord | None) -> bool:
        """Count a failed attempt that is identical to the last one; False: it must be written."""
        last = self.of(job_id)[-1:]
        if attempt is None or not last or not attempt.continues(last[0]):
            return False
        self._counted[job_id] = attempt.after(last[0])
        return True

    def save(self, job_id: int, attempt: AttemptRecord | None) -> None:
        """Store an attempt, replacing the one under way or merged with an identical failure before it."""
        if attempt is None:
            return
        last = self.of(job_id)[-1:]
        self.write_counted(job_id)
        self._write(job_id, attempt.after(last[0] if last else None))

    def write_counted(self, job_id: int) -> None:
        """Write what was only counted."""
        if job_id in self._counted:
            self._write(job_id, self._counted.pop(job_id))

    def close_open(self) -> None:
        """End the attempts that a stop of gatewayd left open; when they really ended is unknown."""
        open_jobs = f"WHERE job_id IN (SELECT id FROM jobs WHERE state NOT IN ({ENDED_STATES}))"  # noqa: S608 - a constant
        for row, attempt in list(self._tables.read("attempts", open_jobs, (), attempt_of)):
            if not attempt.ended_at:
                ended = replace(
                    attempt, ended_at=self._tables.now(), code="interrupted", reason="gatewayd was stopped"
                )
                self.save(row["job_id"], ended)

    def forget_jobless(self) -> None:
        """Remove those whose job is gone."""
        self._tables.db.execute("DELETE FROM attempts WHERE job_id NOT IN (SELECT id FROM jobs)")

    def _write(self, job_id: int, attempt: AttemptRecord) -> None:
        self._tables.db.execute(
            "INSERT INTO attempts (job_id, number, record) VALUES (?, ?, ?)"
            " ON CONFLICT (job_id, number) DO UPDATE SET record = excluded.record",
            (job_id, attempt.number, write_json(attempt)),
        )
        self._tables.db.execute(
            "DELETE FROM attempts WHERE job_id = ? AND number <= ?", (job_id, attempt.number - KEPT_ATTEMPTS)
        )
