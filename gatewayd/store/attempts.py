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
        # Attempts that were counted but not written yet, by job and number.
        self._counted: dict[int, dict[int, AttemptRecord]] = {}

    @property
    def unwritten(self) -> list[int]:
        """The jobs with attempts that were only counted."""
        return list(self._counted)

    def of(self, job_id: int) -> list[AttemptRecord]:
        """The attempts of a job that are kept, oldest first."""
        rows = self._tables.read("attempts", "WHERE job_id = ? ORDER BY number", (job_id,), attempt_of)
        kept = [attempt for _, attempt in rows]
        all_ = {one.number: one for one in kept} | self._counted.get(job_id, {})
        return [all_[number] for number in sorted(all_)][-KEPT_ATTEMPTS:]

    def count(self, job_id: int, attempt: AttemptRecord | None) -> bool:
        """Count a failed attempt that is identical to the last one; False: it must be written."""
        if attempt is None or not self._repeats(job_id, attempt):
            return False
        self.hold(job_id, attempt)
        return True

    def is_told(self, job_id: int, attempt: AttemptRecord | None) -> bool:
        """Whether what is kept tells as much as this: it repeats the last one, or is only under way."""
        return attempt is None or not attempt.ended_at or self._repeats(job_id, attempt)

    def hold(self, job_id: int, attempt: AttemptRecord | None) -> None:
        """Keep an attempt in memory, but not one that is under way: its end tells more."""
        if attempt is not None and attempt.ended_at:
            last = self.of(job_id)[-1:]
            numbered = attempt.after(last[0] if last else None)
            held = self._counted.setdefault(job_id, {})
            held[numbered.number] = numbered
            held.pop(numbered.number - KEPT_ATTEMPTS, None)

    def save(self, job_id: int, attempt: AttemptRecord | None) -> None:
        """Store an attempt, replacing the one under way or merged with an identical failure before it."""
        if attempt is None:
            return
        last = self.of(job_id)[-1:]
        self.write_counted(job_id)
        self._write(job_id, attempt.after(last[0] if last else None))

    def write_counted(self, job_id: int) -> None:
        """Write what was only counted."""
        for attempt in self._counted.pop(job_id, {}).values():
            self._write(job_id, attempt)

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

    def _repeats(self, job_id: int, attempt: AttemptRecord) -> bool:
        last = self.of(job_id)[-1:]
        return bool(last) and attempt.continues(last[0])

    def _write(self, job_id: int, attempt: AttemptRecord) -> None:
        self._tables.db.execute(
            "INSERT INTO attempts (job_id, number, record) VALUES (?, ?, ?)"
            " ON CONFLICT (job_id, number) DO UPDATE SET record = excluded.record",
            (job_id, attempt.number, write_json(attempt)),
        )
        self._tables.db.execute(
            "DELETE FROM attempts WHERE job_id = ? AND number <= ?", (job_id, attempt.number - KEPT_ATTEMPTS)
        )
