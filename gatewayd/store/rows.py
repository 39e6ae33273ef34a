"""Convert values of the model to rows of the database and back (stored.py has the rules of reading).

Numbers up to 2**64 - 1 are text: SQLite's integers end at 2**63 - 1.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

from gatewayd.jobs.model import (
    AttemptRecord,
    BoardKey,
    CreateJob,
    DeviceRecord,
    Job,
    Pause,
    Release,
    RomFacts,
    Verdict,
)
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.version import Version
from gatewayd.protocol.image import SHA256, ImageId
from gatewayd.protocol.session import LONGEST_BOOT_S, DeviceInfo
from gatewayd.store.stored import (
    Format,
    UnreadableError,
    a_digest,
    digest_or_nothing,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_JOB_FIELDS = tuple(field.name for field in fields(Job))[1:]
_JOB_COLUMNS = (*_JOB_FIELDS, "boot_token")
JOB_INSERT = f" ({', '.join(_JOB_COLUMNS)}) VALUES ({', '.join('?' for _ in _JOB_COLUMNS)})"

_JOB = Format(
    Job,
    essential=("id", "device", "release_id", "message_sha256", "version", "state"),
    checks={
        "message_sha256": a_digest,
        "version": Version.parse,
        "image_sha256": digest_or_nothing,
        "container_sha256": digest_or_nothing,
        "image_id": lambda text: ImageId.parse(text or "none:"),
    },
)
_RELEASE = Format(
    Release,
    essential=("id", "seq", "topic", "app_id", "major", "minor", "channel", "sha256"),
    checks={"sha256": a_digest},
)
_ATTEMPT = Format(AttemptRecord)


def _check_roms(roms: tuple[RomFacts, ...]) -> None:
    for rom in roms:
        a_digest(rom.sha256)


# All fields are essential: a guessed one could let a refused message pass. Verifying again restores them.
_VERDICT = Format(
    Verdict,
    essential=(
        *("code", "reason", "patch", "body_sha256", "body_size"),
        *("container_sha256", "timestamp_ms", "roms"),
    ),
    checks={
        "body_sha256": digest_or_nothing,
        "container_sha256": digest_or_nothing,
        "roms": _check_roms,
    },
)


def _as_now(info: Mapping[str, Any]) -> dict[str, Any]:
    """Convert what 0.1.0 stored of a device; all of its devices spoke RCP."""
    now = dict(info)
    for name in ("running", "tried"):
        if name not in info and isinstance(sha256 := info.get(f"{name}_sha256"), str):
            now[name] = f"{SHA256}:{sha256}"
    if "boot_limit_s" not in info and isinstance(boot_s := info.get("boot_time_s"), int):
        now["boot_limit_s"] = min(boot_s, LONGEST_BOOT_S)
    return now


_INFO = Format(
    DeviceInfo,
    essential=("app_id",),
    earlier=_as_now,
)
_PAUSE = Format(Pause)


@dataclass(frozen=True, slots=True)
class Read(Generic[T_co]):
    """A value from a row (None: it cannot be used), and the parts that could not be read."""

    value: T_co
    unread: tuple[str, ...] = ()


def new_job(command: CreateJob, seq: int, now: str) -> tuple[Any, ...]:
    """Values for JOB_INSERT."""
    job = Job(
        id=0,
        device=command.device,
        release_id=command.release_id,
        message_sha256=command.message_sha256,
        from_version=command.from_version,
        version=command.version,
        state=command.state,
        created_at=now,
        updated_at=now,
        created_seq=seq,
        updated_seq=seq,
        timestamp_ms=command.timestamp_ms,
        container_sha256=command.container_sha256,
        topic=command.topic,
        decision=command.decision,
        retry_reverted=command.retry_reverted,
    )
    return tuple(job_row(job).values())


def job_row(job: Job) -> dict[str, Any]:
    """Columns of a job, all but its id."""
    values = {name: getattr(job, name) for name in _JOB_FIELDS}
    if job.timestamp_ms is not None:
        values["timestamp_ms"] = str(job.timestamp_ms)
    values["boot_token"] = None
    if isinstance(job.boot_id, str):  # in the integer column "007" would become 7
        values |= {"boot_id": None, "boot_token": job.boot_id}
    return values


def job_of(row: sqlite3.Row) -> Read[Job | None]:
    """Read a row of jobs."""
    values = dict(row)
    token = values.pop("boot_token", None)
    return _of(_JOB, values if token is None else values | {"boot_id": token})


def attempt_of(row: sqlite3.Row) -> Read[AttemptRecord | None]:
    """Read a row of attempts."""
    read = _of_json(_ATTEMPT, row["record"])
    return read if read.value is None else Read(replace(read.value, number=row["number"]), read.unread)


def release_of(row: sqlite3.Row) -> Read[Release | None]:
    """Read a row of releases."""
    return _of(_RELEASE, dict(row))


def verdict_of(row: sqlite3.Row) -> Read[Verdict | None]:
    """Read a row of verdicts."""
    return _of_json(_VERDICT, row["verdict"])


def pause_in(row: sqlite3.Row) -> Read[Pause | None]:
    """Read a row of pauses. The pause stays in force whatever part cannot be read."""
    return _of(_PAUSE, dict(row))


def device_of(row: sqlite3.Row) -> Read[DeviceRecord]:
    """Read a row of devices. If the device's report cannot be read, its mark still can, and vice versa."""
    info = _of_json(_INFO, row["info"])
    mark = mark_of_row(row["mark_timestamp_ms"], row["mark_container"])
    seq, at = row["contact_seq"], row["contact_at"]
    record = DeviceRecord(
        str(row["name"]),
        info.value,
        seq if isinstance(seq, int) else 0,
        at if isinstance(at, str) else "",
        mark.value,
    )
    return Read(record, info.unread + mark.unread)


def mark_of_row(timestamp_ms: object, container: object) -> Read[RollbackMark | None]:
    """Read an anti-rollback mark. Even without its container it refuses what is not newer."""
    if timestamp_ms is None:
        return Read(None)
    text = str(timestamp_ms)
    if not (text.isascii() and text.isdecimal()):
        return Read(None, (f"anti-rollback mark: expected a timestamp, got {text[:40]!r}",))
    if not isinstance(container, bytes):
        return Read(RollbackMark(int(text), b""), ("anti-rollback mark: its container is not readable",))
    return Read(RollbackMark(int(text), container))


def board_mark_of(row: sqlite3.Row) -> Read[tuple[BoardKey, RollbackMark] | None]:
    """Read a row of marks."""
    mark = mark_of_row(row["timestamp_ms"], row["container"])
    key = BoardKey(str(row["app_id"]), str(row["kind"]), str(row["board"]))
    return Read(None if mark.value is None else (key, mark.value), mark.unread)


def _of(shape: Format[T], values: object) -> Read[T | None]:
    try:
        value, unread = shape.read(values)
    except UnreadableError as error:
        return Read(None, (str(error),))
    return Read(value, tuple(unread))


def _of_json(shape: Format[T], text: object) -> Read[T | None]:
    if text is None:
        return Read(None)
    try:
        value, unread = shape.read_json(text)
    except UnreadableError as error:
        return Read(None, (str(error),))
    return Read(value, tuple(unread))
