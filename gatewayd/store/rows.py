"""Values of the model to rows of the database, and back.

Numbers up to 2**64 - 1 are text: SQLite's integers end at 2**63 - 1.
"""

import json
import sqlite3
from dataclasses import fields
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
from gatewayd.protocol.image import SHA256, ImageId
from gatewayd.protocol.session import LONGEST_BOOT_S, DeviceInfo, ImageState

# Fields of a job that an earlier version has no column for: they stand in a table of their own, as JSON.
_EXTRAS = ("image_id", "is_armed")
_JOB_FIELDS = tuple(field.name for field in fields(Job) if field.name not in _EXTRAS)
# Every column of a job, with its extras.
JOB_SELECT = "SELECT jobs.*, job_extras.facts FROM jobs LEFT JOIN job_extras ON job_extras.job_id = jobs.id"
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
    if isinstance(job.boot_id, str):
        values["boot_id"] = None  # the column would make a number of what looks like one
    return values


def job_extras(job: Job) -> str:
    """Write what the columns of a job do not hold, as JSON; "" for nothing."""
    values = {name: getattr(job, name) for name in _EXTRAS if getattr(job, name)}
    if isinstance(job.boot_id, str):
        values["boot_id"] = job.boot_id
    return json.dumps(values) if values else ""


def job_of(row: sqlite3.Row) -> Job:
    """Read a row of JOB_SELECT."""
    values = dict(row)
    extras = json.loads(values.pop("facts") or "{}")
    values |= {name: extras[name] for name in (*_EXTRAS, "boot_id") if name in extras}
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


# What earlier versions demand of a device's information, and use for nothing that is stored.
_DEMANDED_EARLIER = {
    **dict.fromkeys(("max_frame", "window", "rx_ring", "erase_block", "write_unit", "tried_count"), 0),
    **dict.fromkeys(("can_set_baud", "can_short_data"), False),
}
_SAME_NAME = (
    *("app_id", "boot_id", "hardware_id", "device_id", "version"),
    *("slot_address", "slot_size", "can_revert"),
)


def info_to_json(info: DeviceInfo) -> str:
    """Write what a device said of itself as text, and all that an earlier version needs to read it."""
    return json.dumps(
        {
            **_DEMANDED_EARLIER,
            **{name: getattr(info, name) for name in _SAME_NAME},
            "image_state": info.image_state,
            "boot_time_s": info.boot_limit_s,
            "running_sha256": _sha256(info.running),
            "tried_sha256": _sha256(info.tried),
            "running": info.running and str(info.running),
            "tried": info.tried and str(info.tried),
        }
    )


def _info_from_json(text: str) -> DeviceInfo:
    values = json.loads(text)
    return DeviceInfo(
        **{name: values[name] for name in _SAME_NAME if name in values},
        image_state=ImageState(values["image_state"]),
        boot_limit_s=values.get("boot_time_s", LONGEST_BOOT_S),
        running=_image(values, "running"),
        tried=_image(values, "tried"),
    )


def _sha256(image: ImageId | None) -> str | None:
    return image.digest.hex() if image is not None and image.algorithm == SHA256 else None


def _image(values: dict[str, Any], name: str) -> ImageId | None:
    """Read an image's name, or its SHA-256, which is all that earlier versions wrote."""
    if values.get(name):
        return ImageId.parse(values[name])
    sha256 = values.get(f"{name}_sha256")
    return None if sha256 is None else ImageId.of_file(bytes.fromhex(sha256))
