"""Values of the model to rows of the database, and back.

Numbers up to 2**64 - 1 are text: SQLite's integers end at 2**63 - 1.
"""

import json
import sqlite3
from dataclasses import asdict, fields
from typing import Any

from gatewayd.jobs.model import (
    AttemptRecord,
    CreateJob,
    DeviceRecord,
    Job,
    JobState,
    Release,
    RomFacts,
    Verdict,
)
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.topic import Channel
from gatewayd.protocol.session import DeviceInfo, ImageState

_JOB_FIELDS = tuple(field.name for field in fields(Job))
JOB_INSERT = f" ({', '.join(_JOB_FIELDS[1:])}) VALUES ({', '.join('?' for _ in _JOB_FIELDS[1:])})"


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
    )
    return tuple(job_row(job).values())


def job_row(job: Job) -> dict[str, Any]:
    """Columns of a job, all but its id."""
    values = {name: getattr(job, name) for name in _JOB_FIELDS[1:]}
    if job.timestamp_ms is not None:
        values["timestamp_ms"] = str(job.timestamp_ms)
    return values


def job_of(row: sqlite3.Row) -> Job:
    """Read a row of jobs."""
    values = dict(row)
    values["state"] = JobState(values["state"])
    values["second_try"] = bool(values["second_try"])
    values["retry_allowed"] = bool(values["retry_allowed"])
    values["timestamp_ms"] = None if values["timestamp_ms"] is None else int(values["timestamp_ms"])
    return Job(**values)


def attempt_of(row: sqlite3.Row) -> AttemptRecord:
    """Read a row of attempts."""
    return AttemptRecord(**json.loads(row["record"]))


def release_of(row: sqlite3.Row) -> Release:
    """Read a row of releases."""
    values = dict(row)
    return Release(
        **{
            **values,
            "major": int(values["major"]),
            "minor": int(values["minor"]),
            "channel": Channel(values["channel"]),
        }
    )


def verdict_of(text: str) -> Verdict:
    """Read a stored verdict."""
    values = json.loads(text)
    return Verdict(**{**values, "roms": tuple(RomFacts(**rom) for rom in values["roms"])})


def device_of(row: sqlite3.Row) -> DeviceRecord:
    """Read a row of devices."""
    mark = None
    if row["mark_timestamp_ms"] is not None:
        mark = RollbackMark(int(row["mark_timestamp_ms"]), bytes(row["mark_container"]))
    info = None if row["info"] is None else _info_from_json(row["info"])
    return DeviceRecord(row["name"], info, row["contact_seq"], row["contact_at"], mark)


_DIGESTS = ("running_sha256", "tried_sha256")


def info_to_json(info: DeviceInfo) -> str:
    """Write what a device said of itself as text."""
    values = asdict(info)
    for name in _DIGESTS:
        values[name] = values[name] and values[name].hex()
    return json.dumps(values)


def _info_from_json(text: str) -> DeviceInfo:
    values = json.loads(text)
    for name in _DIGESTS:
        values[name] = values[name] and bytes.fromhex(values[name])
    return DeviceInfo(**{**values, "image_state": ImageState(values["image_state"])})
