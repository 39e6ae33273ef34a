"""Releases, verdicts, devices and jobs in SQLite; the messages themselves are in the spool.

Each public method of `Database` is one transaction: either it is durable when the method returns, or it did
not happen.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gatewayd.errors import HostError
from gatewayd.jobs.model import (
    AttemptRecord,
    BoardKey,
    CreateJob,
    DecodeProfile,
    DeviceRecord,
    EndJob,
    Job,
    Pause,
    Release,
    SaveMark,
    Verdict,
)
from gatewayd.jobs.transitions import INTERRUPTIBLE, TRANSITIONS, JobState, check_transition
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.topic import OtaTopic
from gatewayd.protocol.session import DeviceInfo
from gatewayd.store.attempts import Attempts
from gatewayd.store.contacts import Contacts
from gatewayd.store.held_jobs import HeldJobs
from gatewayd.store.limits import WriteLimits
from gatewayd.store.releases import Releases
from gatewayd.store.retained import RetainedReleases
from gatewayd.store.rollback_marks import StoredMarks
from gatewayd.store.rows import (
    JOB_INSERT,
    job_of,
    job_row,
    new_job,
    pause_in,
)
from gatewayd.store.schema import ENDED_STATES
from gatewayd.store.spool import Spool
from gatewayd.store.tables import Tables
from gatewayd.store.verdicts import Verdicts

_ENDED = ENDED_STATES
# Jobs kept for each device once they have ended.
KEPT_JOBS = 50


class Database:
    """The tables. Every method is one transaction and runs on the store's thread."""

    def __init__(
        self,
        path: Path,
        spool: Spool,
        now: Callable[[], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._tables = Tables(path, now)
        self._db = self._tables.db
        limits = WriteLimits(clock)
        self._attempts = Attempts(self._tables)
        self._held = HeldJobs(limits)
        self._releases = Releases(self._tables, spool)
        self._verdicts = Verdicts(self._tables)
        self._marks = StoredMarks(self._tables)
        self.retained = RetainedReleases(self._tables)
        self._contacts = Contacts(self._tables, self._marks, limits)
        try:
            self._look_through()
        except BaseException:
            self._db.close()
            raise

    @property
    def commits(self) -> int:
        """How many transactions have changed something since it was opened."""
        return self._tables.commits

    def close(self) -> None:
        """Write what is only in memory, if the disk allows it, and close the connection."""
        with suppress(sqlite3.Error):
            for job in self._held.all():
                with self._tables.transaction():
                    self._save_job(job, job.updated_seq)
            self._contacts.write_all_unwritten()
            if waiting := self._attempts.unwritten:
                with self._tables.transaction():
                    for job_id in waiting:
                        self._attempts.write_counted(job_id)
        self._db.close()

    def fold(self) -> None:
        """Move what is in SQLite's log into the file, which is then complete once this is closed."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _look_through(self) -> None:
        """Read everything once, so that damage shows now; end jobs that cannot be read.

        Each of those would block its device forever, as its one active job. The planner creates another where
        an update is still due.
        """
        self._tables.mend_counter()
        for read in (self.releases, self.verdicts, self.devices, self.marks, self.pauses):
            read()
        known = {job.id for job in self.jobs()}
        active = self._db.execute(f"SELECT id FROM jobs WHERE state NOT IN ({_ENDED})")  # noqa: S608 - a constant
        if lost := [id_ for (id_,) in active if id_ not in known]:
            reason = "what was stored of it cannot be read"
            with self._tables.transaction():
                self._db.executemany(
                    "UPDATE jobs SET state = ?, code = 'stored_unreadable', reason = ? WHERE id = ?",
                    [(JobState.CANCELLED, reason, id_) for id_ in lost],
                )

    def adopt(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        """Insert rows, by table, that were salvaged from a damaged database.

        Left out are releases whose message is gone, and unknown columns: damage may be in their names.
        """
        with self._tables.transaction():
            for table, each in rows.items():
                columns = [column["name"] for column in self._db.execute(f"PRAGMA table_info({table})")]
                for row in each:
                    if table == "releases" and not self._spool.holds(row.get("sha256", "")):
                        continue
                    values = {name: row[name] for name in columns if name in row}
                    names, places = ", ".join(values), ", ".join("?" * len(values))
                    if values:
                        self._db.execute(
                            f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({places})",  # noqa: S608 - names of ours
                            tuple(values.values()),
                        )
        self._tables.mend_counter()

    # -- releases

    def add_release(
        self,
        topic: OtaTopic,
        topic_text: str,
        payload: bytes,
        verdicts: Mapping[DecodeProfile, Verdict] = MappingProxyType({}),
        *,
        alone: bool = False,
        from_line: str = "",
    ) -> bool:
        """Make a message its topic's newest release; with `alone` its only one, always as a new release.

        `from_line`: the line from which a person ordered the step to it. What was verified already is stored
        with it.

        False: it already is the newest, and nothing changed. An older one that arrives again becomes the
        newest; one whose file was damaged or lost is repaired, and verified again.
        """

        def judge(sha256: str) -> None:
            self._verdicts.forget_damage(sha256)
            for profile, verdict in verdicts.items():
                self._verdicts.put(sha256, profile, verdict)

        return self._releases.add(topic, topic_text, payload, alone=alone, from_line=from_line, before=judge)

    def withdraw(self, topic_text: str) -> bool:
        """Withdraw all releases of a topic. False: there were none."""
        return self._releases.withdraw(topic_text)

    def releases(self) -> list[Release]:
        """All releases, oldest first."""
        return self._releases.all()

    def drop_releases(self, ids: list[int]) -> None:
        """Remove releases that are no longer needed."""
        self._releases.drop(ids)

    def sweep_spool(self) -> list[str]:
        """Remove spool files that no release and no active job refers to; returns their names.

        The files are removed last.
        """
        wanted = {row[0] for row in self._db.execute("SELECT sha256 FROM releases")}
        wanted |= {
            row[0]
            for row in self._db.execute(f"SELECT message_sha256 FROM jobs WHERE state NOT IN ({_ENDED})")  # noqa: S608 - a constant
        }
        judged = [row[0] for row in self._db.execute("SELECT DISTINCT sha256 FROM verdicts")]
        obsolete = [(sha256,) for sha256 in judged if sha256 not in wanted]
        if obsolete:  # every planning pass ends here: most have nothing to write, and SD cards wear
            with self._tables.transaction():
                self._db.executemany("DELETE FROM verdicts WHERE sha256 = ?", obsolete)
        return self._spool.keep_only(wanted)

    # -- verdicts

    def verdicts(self) -> dict[tuple[str, str], Verdict]:
        """Every verdict, by message SHA-256 and `DecodeProfile.key`."""
        return self._verdicts.all()

    def save_verdict(self, sha256: str, profile: DecodeProfile, verdict: Verdict) -> None:
        """Store the verdict on a message."""
        with self._tables.transaction():
            self._verdicts.put(sha256, profile, verdict)

    # -- devices

    def devices(self) -> dict[str, DeviceRecord]:
        """Return what every device last reported, by name."""
        return self._contacts.all()

    def save_contact(self, name: str, info: DeviceInfo) -> None:
        """Store what a device reported about itself. What is no news may wait in memory (see contacts.py)."""
        self._contacts.save(name, info)

    def marks(self) -> dict[BoardKey, RollbackMark]:
        """Return the anti-rollback mark of every board."""
        return self._marks.all()

    def save_mark(self, command: SaveMark) -> None:
        """Raise a board's stored mark."""
        with self._tables.transaction():
            self._marks.save(command.device, command.keys, command.mark, lowers=False)

    # -- jobs

    def jobs(self) -> list[Job]:
        """All jobs kept, oldest first."""
        return [self._held.latest(job) for _, job in self._tables.read("jobs", "ORDER BY id", (), job_of)]

    def job(self, id_: int) -> Job:
        """One job. Raises HostError `no_such_job`."""
        return self._held.latest(self._written_job(id_))

    def _written_job(self, id_: int) -> Job:
        for _, job in self._tables.read("jobs", "WHERE id = ?", (id_,), job_of):
            return job
        raise HostError(f"there is no job {id_}", code="no_such_job", hint="gatewayctl jobs lists them")

    def create_job(self, command: CreateJob) -> Job | None:
        """Create a job; None if its device already has an active one."""
        with self._tables.transaction() as seq:
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO jobs" + JOB_INSERT, new_job(command, seq, self._tables.now())
            )
            if cursor.rowcount == 0:
                return None
            self._db.execute(
                f"DELETE FROM jobs WHERE device = ? AND state IN ({_ENDED}) AND id NOT IN"  # noqa: S608 - a constant
                " (SELECT id FROM jobs WHERE device = ? ORDER BY id DESC LIMIT ?)",
                (command.device, command.device, KEPT_JOBS),
            )
            id_ = cursor.lastrowid
            self._attempts.forget_jobless()
        return self.job(int(id_ or 0))

    def move_job(self, id_: int, state: JobState, note: AttemptRecord | None = None, **changes: Any) -> Job:
        """Move a job along the transition table, change other fields with it, and store an attempt.

        A round that came to nothing may wait in memory (see held_jobs.py). Raises IllegalTransitionError.
        """
        old = self.job(id_)
        check_transition(old.state, state)
        return self._change_job(replace(old, state=state, **changes), note)

    def update_job(self, id_: int, note: AttemptRecord | None = None, **changes: Any) -> Job:
        """Change fields of a job that stays in its state, and store an attempt.

        A failure identical to the one before is only counted in memory (see attempts.py).
        """
        old = self.job(id_)
        if replace(old, **changes) == old and self._attempts.count(id_, note):
            return old
        return self._change_job(replace(old, **changes), note)

    def interrupt_job(self, id_: int, note: AttemptRecord | None = None, **changes: Any) -> Job:
        """Queue a job again after its attempt was interrupted; one that was activated stays so.

        If the attempt's last move had already ended the job, it stays ended.
        """
        old = self.job(id_)
        if not old.is_active:
            return old
        state = JobState.QUEUED if old.state in INTERRUPTIBLE else old.state
        if state is old.state:
            return self.update_job(id_, note, **changes)
        return self._change_job(replace(old, state=state, **changes), note)

    def end_job(self, command: EndJob) -> Job | None:
        """Supersede or cancel a job; None if its state no longer allows that, and it is unchanged."""
        with self._tables.transaction() as seq:
            old = self.job(command.job_id)
            if command.state not in TRANSITIONS[old.state]:
                return None
            return self._save_job(
                replace(old, state=command.state, code=command.code, reason=command.reason), seq
            )

    def succeed(
        self,
        id_: int,
        mark: RollbackMark | None,
        note: AttemptRecord | None = None,
        *,
        boards: Sequence[BoardKey] = (),
        lowers: bool = False,
        **changes: Any,
    ) -> Job:
        """Move a job to `succeeded` and its board's anti-rollback mark with it; down only if `lowers`."""
        with self._tables.transaction() as seq:
            old = self.job(id_)
            check_transition(old.state, JobState.SUCCEEDED)
            self._attempts.save(id_, note)
            if mark is not None:
                self._marks.save(old.device, boards, mark, lowers=lowers)
            return self._save_job(replace(old, state=JobState.SUCCEEDED, **changes), seq)

    def recover(self) -> list[Job]:
        """After a start, queue interrupted jobs again; those in `activating` wait for the device."""
        with self._tables.transaction():
            self._verdicts.forget_damage()
            self._attempts.close_open()
        interrupted = [job for job in self.jobs() if job.state in INTERRUPTIBLE]
        return [
            self.move_job(
                job.id, JobState.QUEUED, code="interrupted", reason="gatewayd was stopped during the transfer"
            )
            for job in interrupted
        ]

    def _change_job(self, job: Job, note: AttemptRecord | None) -> Job:
        is_told = self._attempts.is_told(job.id, note)
        if self._held.may_hold(self._written_job(job.id), job, is_attempt_told=is_told):
            self._attempts.hold(job.id, note)
            return self._held.hold(
                replace(job, updated_seq=self._tables.next_seq, updated_at=self._tables.now())
            )
        with self._tables.transaction() as seq:
            self._attempts.save(job.id, note)
            return self._save_job(job, seq)

    def _save_job(self, job: Job, seq: int) -> Job:
        self._attempts.write_counted(job.id)
        self._contacts.write_unwritten(job.device)
        self._tables.after_commit(lambda: self._held.release(job.id))
        job = replace(job, updated_seq=seq, updated_at=self._tables.now())
        before = job_row(self._written_job(job.id))
        values = {name: value for name, value in job_row(job).items() if value != before[name]}
        assignments = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"UPDATE jobs SET {assignments} WHERE id = ?", (*values.values(), job.id))  # noqa: S608 - names of ours
        return job

    def attempts(self, job_id: int) -> list[AttemptRecord]:
        """The attempts of a job that are kept, oldest first."""
        return self._attempts.of(job_id)

    # -- what a person decides

    def allow_retry(self, id_: int) -> Job:
        """Let the planner create another job for an ended job's release."""
        with self._tables.transaction() as seq:
            return self._save_job(replace(self.job(id_), retry_allowed=True), seq)

    def pause(self, name: str, by: str) -> bool:
        """Pause a device, or `EVERYTHING`. False: it was paused already."""
        with self._tables.transaction():
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO pauses (name, since, by) VALUES (?, ?, ?)",
                (name, self._tables.now(), by),
            )
            return cursor.rowcount > 0

    def resume(self, name: str) -> bool:
        """End a pause. False: there was none."""
        with self._tables.transaction():
            return self._db.execute("DELETE FROM pauses WHERE name = ?", (name,)).rowcount > 0

    def pauses(self) -> dict[str, Pause]:
        """What is paused, by device name or `EVERYTHING`."""
        return {str(row["name"]): pause for row, pause in self._tables.read("pauses", "", (), pause_in)}
