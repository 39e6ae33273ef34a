"""Releases, verdicts, devices and jobs in SQLite; the messages themselves are in the spool.

Each public method of `Database` is one transaction: it happened, durably, when it returns, or it did not.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatewayd.errors import HostError
from gatewayd.jobs.model import (
    INTERRUPTIBLE,
    TRANSITIONS,
    AttemptRecord,
    CreateJob,
    DecodeProfile,
    DeviceRecord,
    EndJob,
    Job,
    JobState,
    Pause,
    Release,
    Verdict,
    check_transition,
)
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.topic import OtaTopic
from gatewayd.protocol.session import DeviceInfo
from gatewayd.store.rows import (
    JOB_INSERT,
    JOB_SELECT,
    attempt_of,
    device_of,
    info_to_json,
    job_extras,
    job_of,
    job_row,
    new_job,
    release_of,
    verdict_of,
)
from gatewayd.store.schema import ENDED_STATES, prepare
from gatewayd.store.spool import Spool
from gatewayd.timestamps import utc_text

_ENDED = ENDED_STATES

# Jobs kept for each device once they have ended, and attempts for each job.
KEPT_JOBS = 50
KEPT_ATTEMPTS = 100


class Database:
    """The tables. Every method is one transaction and runs on the store's thread."""

    def __init__(self, path: Path, spool: Spool, now: Callable[[], str] | None = None) -> None:
        self._spool = spool
        self._now = now or utc_now
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        # Attempts that were counted and not written, by job: see `update_job`.
        self._again: dict[int, AttemptRecord] = {}
        try:
            self.is_new = prepare(self._db, path)
            self._check()
        except BaseException:
            self._db.close()
            raise

    @property
    def changes(self) -> int:
        """How many rows were changed since it was opened."""
        return self._db.total_changes

    def close(self) -> None:
        """Write what was only counted, if the disk lets us, and close the connection."""
        with suppress(sqlite3.Error):
            if self._again:
                with self._transaction():
                    for job_id in list(self._again):
                        self._write_again(job_id)
        self._db.close()

    def _check(self) -> None:
        """Raise sqlite3.DatabaseError when the file or what it holds is damaged. Some ms for a few MiB."""
        (answer,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise damaged(str(answer))
        try:
            for read in (self.releases, self.verdicts, self.devices, self.jobs, self.pauses):
                read()
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(f"a row that cannot be: {error}") from error

    def adopt(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        """Take rows over, by table, from a database that was damaged. Messages that are gone are left out.

        So are columns that we do not have: damage may be in their names.
        """
        with self._transaction():
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
            highest = "SELECT max(seq) FROM (SELECT seq FROM releases UNION SELECT contact_seq FROM devices)"
            self._db.execute(f"UPDATE counter SET seq = max(seq, ifnull(({highest}), 0))")  # noqa: S608 - a constant

    # -- releases

    def add_release(self, topic: OtaTopic, topic_text: str, payload: bytes, *, alone: bool = False) -> bool:
        """Make a message its topic's newest release; with `alone` its only one, and a new one in any case.

        False: it is that already, and nothing changed. An older one that comes again is the newest from then
        on; one whose file had been damaged or lost is repaired, and verified again.
        """
        sha256, is_new_file = self._spool.write(payload)
        with self._transaction() as seq:
            newest = self._db.execute(
                "SELECT sha256 FROM releases WHERE topic = ? ORDER BY seq DESC LIMIT 1", (topic_text,)
            ).fetchone()
            if not (is_new_file or alone) and newest is not None and newest["sha256"] == sha256:
                return False
            if alone:
                self._db.execute("DELETE FROM releases WHERE topic = ?", (topic_text,))
            self._forget_damage(sha256)
            self._db.execute(
                "INSERT INTO releases (seq, topic, app_id, major, minor, channel, sha256, size, received_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (topic, sha256) DO UPDATE SET seq = excluded.seq,"
                " received_at = excluded.received_at",
                (
                    seq,
                    topic_text,
                    topic.app_id,
                    str(topic.major),
                    str(topic.minor),
                    topic.channel,
                    sha256,
                    len(payload),
                    self._now(),
                ),
            )
            return True

    def withdraw(self, topic_text: str) -> bool:
        """Take back whatever a topic has. False: there was nothing."""
        with self._transaction():
            return self._db.execute("DELETE FROM releases WHERE topic = ?", (topic_text,)).rowcount > 0

    def releases(self) -> list[Release]:
        """All releases, oldest first."""
        return [release_of(row) for row in self._db.execute("SELECT * FROM releases ORDER BY seq")]

    def drop_releases(self, ids: list[int]) -> None:
        """Remove releases that newer ones stand for."""
        with self._transaction():
            self._db.executemany("DELETE FROM releases WHERE id = ?", [(id_,) for id_ in ids])

    def sweep_spool(self) -> list[str]:
        """Remove spool files that no release and no active job refers to; returns their names.

        Files go last.
        """
        wanted = {row[0] for row in self._db.execute("SELECT sha256 FROM releases")}
        wanted |= {
            row[0]
            for row in self._db.execute(f"SELECT message_sha256 FROM jobs WHERE state NOT IN ({_ENDED})")  # noqa: S608 - a constant
        }
        judged = [row[0] for row in self._db.execute("SELECT DISTINCT sha256 FROM verdicts")]
        obsolete = [(sha256,) for sha256 in judged if sha256 not in wanted]
        if obsolete:  # every pass of the planner ends here: most have nothing to write, and SD cards wear
            with self._transaction():
                self._db.executemany("DELETE FROM verdicts WHERE sha256 = ?", obsolete)
        return self._spool.keep_only(wanted)

    # -- verdicts

    def verdicts(self) -> dict[tuple[str, str], Verdict]:
        """Every verdict, by message SHA-256 and `DecodeProfile.key`."""
        rows = self._db.execute("SELECT * FROM verdicts")
        return {(row["sha256"], row["reading"]): verdict_of(row["verdict"]) for row in rows}

    def save_verdict(self, sha256: str, reading: DecodeProfile, verdict: Verdict) -> None:
        """Remember what verification made of a message."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)",
                (sha256, reading.key, json.dumps(asdict(verdict))),
            )

    def _forget_damage(self, sha256: str | None = None) -> None:
        """Let messages that could not be read be looked at again: this one, or all."""
        for (other, reading), verdict in self.verdicts().items():
            if verdict.code == "spool_damaged" and sha256 in (None, other):
                self._db.execute("DELETE FROM verdicts WHERE sha256 = ? AND reading = ?", (other, reading))

    # -- devices

    def devices(self) -> dict[str, DeviceRecord]:
        """Return what every device last said, by name."""
        return {row["name"]: device_of(row) for row in self._db.execute("SELECT * FROM devices")}

    def save_contact(self, name: str, info: DeviceInfo) -> None:
        """Remember what a device says of itself."""
        with self._transaction() as seq:
            self._db.execute(
                "INSERT INTO devices (name, info, contact_seq, contact_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET info = excluded.info,"
                " contact_seq = excluded.contact_seq, contact_at = excluded.contact_at",
                (name, info_to_json(info), seq, self._now()),
            )

    # -- jobs

    def jobs(self) -> list[Job]:
        """All jobs kept, oldest first."""
        return [job_of(row) for row in self._db.execute(f"{JOB_SELECT} ORDER BY jobs.id")]

    def job(self, id_: int) -> Job:
        """One job. Raises HostError `no_such_job`."""
        row = self._db.execute(f"{JOB_SELECT} WHERE jobs.id = ?", (id_,)).fetchone()
        if row is None:
            raise HostError(f"there is no job {id_}", code="no_such_job", hint="gatewayctl jobs lists them")
        return job_of(row)

    def create_job(self, command: CreateJob) -> Job | None:
        """Make a job; None when its device has one under way already."""
        with self._transaction() as seq:
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO jobs" + JOB_INSERT, new_job(command, seq, self._now())
            )
            if cursor.rowcount == 0:
                return None
            self._db.execute(
                f"DELETE FROM jobs WHERE device = ? AND state IN ({_ENDED}) AND id NOT IN"  # noqa: S608 - a constant
                " (SELECT id FROM jobs WHERE device = ? ORDER BY id DESC LIMIT ?)",
                (command.device, command.device, KEPT_JOBS),
            )
            id_ = cursor.lastrowid
            self._db.execute("DELETE FROM attempts WHERE job_id NOT IN (SELECT id FROM jobs)")
            self._db.execute("DELETE FROM job_extras WHERE job_id NOT IN (SELECT id FROM jobs)")
        return self.job(int(id_ or 0))

    def move_job(self, id_: int, state: JobState, note: AttemptRecord | None = None, **changes: Any) -> Job:
        """Move a job along the transition table, changing other fields and noting an attempt with it.

        Raises IllegalTransitionError.
        """
        with self._transaction() as seq:
            old = self.job(id_)
            check_transition(old.state, state)
            self._save_attempt(id_, note)
            return self._save_job(replace(old, state=state, **changes), seq)

    def update_job(self, id_: int, note: AttemptRecord | None = None, **changes: Any) -> Job:
        """Change fields of a job that stays in its state, and note an attempt.

        The same in vain once more is counted in memory, and written with what comes next: a port may be
        missing for years, and SD cards wear.
        """
        old = self.job(id_)
        if replace(old, **changes) == old and self._is_counted(id_, note):
            return old
        with self._transaction() as seq:
            self._save_attempt(id_, note)
            return self._save_job(replace(self.job(id_), **changes), seq)

    def interrupt_job(self, id_: int, note: AttemptRecord | None = None, **changes: Any) -> Job:
        """Let a job wait again whose attempt was ended from outside; one that was activated stays that.

        Its last move may have been stored without anybody having heard of it: one that has ended stands.
        """
        old = self.job(id_)
        if not old.is_active:
            return old
        state = JobState.QUEUED if old.state in INTERRUPTIBLE else old.state
        if state is old.state:
            return self.update_job(id_, note, **changes)
        with self._transaction() as seq:
            self._save_attempt(id_, note)
            return self._save_job(replace(old, state=state, **changes), seq)

    def end_job(self, command: EndJob) -> Job | None:
        """Supersede or cancel a job; None when it has gone where that is not possible, which then stands."""
        with self._transaction() as seq:
            old = self.job(command.job_id)
            if command.state not in TRANSITIONS[old.state]:
                return None
            return self._save_job(
                replace(old, state=command.state, code=command.code, reason=command.reason), seq
            )

    def succeed(
        self, id_: int, mark: RollbackMark | None, note: AttemptRecord | None = None, **changes: Any
    ) -> Job:
        """Move a job to `succeeded` and its device's anti-rollback mark with it."""
        with self._transaction() as seq:
            old = self.job(id_)
            check_transition(old.state, JobState.SUCCEEDED)
            self._save_attempt(id_, note)
            if mark is not None:
                self._db.execute(
                    "INSERT INTO devices (name, contact_seq, contact_at, mark_timestamp_ms, mark_container)"
                    " VALUES (?, 0, '', ?, ?) ON CONFLICT (name) DO UPDATE SET"
                    " mark_timestamp_ms = excluded.mark_timestamp_ms,"
                    " mark_container = excluded.mark_container",
                    (old.device, str(mark.timestamp_ms), mark.container_sha256),
                )
            return self._save_job(replace(old, state=JobState.SUCCEEDED, **changes), seq)

    def recover(self) -> list[Job]:
        """After a start, let what was under way wait again; `activating` stays, there the device is asked."""
        with self._transaction():
            self._forget_damage()
            self._close_attempts()
        interrupted = [job for job in self.jobs() if job.state in INTERRUPTIBLE]
        return [
            self.move_job(
                job.id, JobState.QUEUED, code="interrupted", reason="gatewayd was stopped during the transfer"
            )
            for job in interrupted
        ]

    def _save_job(self, job: Job, seq: int) -> Job:
        self._write_again(job.id)
        job = replace(job, updated_seq=seq, updated_at=self._now())
        values = job_row(job)
        assignments = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"UPDATE jobs SET {assignments} WHERE id = ?", (*values.values(), job.id))  # noqa: S608 - names of ours
        if extras := job_extras(job):
            self._db.execute("INSERT OR REPLACE INTO job_extras VALUES (?, ?)", (job.id, extras))
        else:
            self._db.execute("DELETE FROM job_extras WHERE job_id = ?", (job.id,))
        return job

    # -- attempts

    def attempts(self, job_id: int) -> list[AttemptRecord]:
        """The attempts of a job that are kept, oldest first."""
        rows = self._db.execute("SELECT * FROM attempts WHERE job_id = ? ORDER BY number", (job_id,))
        kept = [attempt_of(row) for row in rows]
        return [*kept[:-1], self._again[job_id]] if job_id in self._again else kept

    def _is_counted(self, job_id: int, attempt: AttemptRecord | None) -> bool:
        """Count an attempt that was in vain like the last one; False: there is something to write."""
        last = self.attempts(job_id)[-1:]
        if attempt is None or not last or not attempt.continues(last[0]):
            return False
        self._again[job_id] = attempt.after(last[0])
        return True

    def _save_attempt(self, job_id: int, attempt: AttemptRecord | None) -> None:
        """Note an attempt: over the one under way, or with the last one when both were alike in vain."""
        if attempt is None:
            return
        last = self.attempts(job_id)[-1:]
        self._write_again(job_id)
        self._write_attempt(job_id, attempt.after(last[0] if last else None))

    def _write_again(self, job_id: int) -> None:
        if job_id in self._again:
            self._write_attempt(job_id, self._again.pop(job_id))

    def _write_attempt(self, job_id: int, attempt: AttemptRecord) -> None:
        record = json.dumps(asdict(attempt))
        self._db.execute("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)", (job_id, attempt.number, record))
        self._db.execute(
            "DELETE FROM attempts WHERE job_id = ? AND number <= ?", (job_id, attempt.number - KEPT_ATTEMPTS)
        )

    def _close_attempts(self) -> None:
        """End what a stop of gatewayd left open; when it ended nobody knows."""
        rows = self._db.execute(
            f"SELECT * FROM attempts WHERE job_id IN (SELECT id FROM jobs WHERE state NOT IN ({_ENDED}))"  # noqa: S608 - a constant
        )
        for row in rows.fetchall():
            attempt = attempt_of(row)
            if not attempt.ended_at:
                self._save_attempt(
                    row["job_id"],
                    replace(attempt, ended_at=self._now(), code="interrupted", reason="gatewayd was stopped"),
                )

    # -- what a person decides

    def allow_retry(self, id_: int) -> Job:
        """Let the planner make another job of an ended job's release."""
        with self._transaction() as seq:
            return self._save_job(replace(self.job(id_), retry_allowed=True), seq)

    def pause(self, name: str, by: str) -> bool:
        """Pause a device, or `EVERYTHING`. False: it was paused already."""
        with self._transaction():
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO pauses VALUES (?, ?, ?)", (name, self._now(), by)
            )
            return cursor.rowcount > 0

    def resume(self, name: str) -> bool:
        """End a pause. False: there was none."""
        with self._transaction():
            return self._db.execute("DELETE FROM pauses WHERE name = ?", (name,)).rowcount > 0

    def pauses(self) -> dict[str, Pause]:
        """What is paused, by device name or `EVERYTHING`."""
        rows = self._db.execute("SELECT * FROM pauses")
        return {row["name"]: Pause(row["since"], row["by"]) for row in rows}

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """One transaction; yields the next value of the counter that orders events."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute("UPDATE counter SET seq = seq + 1")
            yield int(self._db.execute("SELECT seq FROM counter").fetchone()[0])
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # some failures, a full disk among them, have rolled back already
                self._db.execute("ROLLBACK")
            raise


def damaged(why: str) -> sqlite3.DatabaseError:
    """Return the error that SQLite itself raises where it notices."""
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def utc_now() -> str:
    """Return the time for people: UTC, ISO 8601, seconds."""
    return utc_text(datetime.now(UTC))
