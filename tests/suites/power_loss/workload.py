"""What gatewayd does to its store in a life, step by step; run by recording.py under strace.

After each step it says what is durable from then on, as an event of lab/history.py: what it says has to be
true after a power cut at any later moment.
"""

import asyncio
import hashlib
import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.history import (
    ENDED,
    Acknowledged,
    Activated,
    Answered,
    Committed,
    Event,
    Looked,
    Published,
    Resumed,
    StoredJob,
    Withdrawn,
)
from lab.recorder import look_into

from gatewayd.jobs.model import BoardKey, CreateJob, Job, Release
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.topic import Channel, OtaTopic
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.session import DeviceInfo
from gatewayd.store import schema, tables
from gatewayd.store.store import Store

# Below a page, above one, and above what SQLite or a file system writes at once.
SIZES = {"pump": 20_000, "tag": 300, "fan": 150_000, "sensor": 9_000}
DEVICES = tuple(SIZES)
STATE = "srv/gatewayd/state"  # gatewayd makes the directories above it, too


def message_of(app: str, patch: int) -> bytes:
    return bytes([patch]) + random.Random(f"{app} {patch}").randbytes(SIZES[app])


def image_of(app: str, patch: int) -> str:
    return hashlib.sha256(message_of(app, patch)[1:]).hexdigest()


def topic_of(app: str) -> OtaTopic:
    return OtaTopic(app, 4, 3, Channel.NONE)


@dataclass(frozen=True, slots=True)
class Armed:
    """A device's next boot will try the image of a job, and that is stored. So it is in SMP."""

    job: int


Told = Event | Armed


class Life:
    """One life of a gateway."""

    def __init__(self, store: Store, state_dir: Path, say: Callable[[Told], None]) -> None:
        self._store, self._state_dir, self._say = store, state_dir, say

    def looked(self) -> None:
        """Say what the store holds: all of it is committed."""
        seen = look_into(self._state_dir)
        assert seen is not None
        self._say(seen)

    async def message(self, app: str, patch: int) -> None:
        """A message arrives and is acknowledged."""
        payload, topic = message_of(app, patch), f"/a/{app}/u/4.3"
        sha256 = hashlib.sha256(payload).hexdigest()
        devices = frozenset({app})
        self._say(Published(sha256, topic, f"4.3.{patch}", image_of(app, patch), devices))
        await self._store.add_release(topic_of(app), topic, payload)
        self._say(Committed(sha256))
        self._say(Acknowledged(sha256))

    async def contact(self, app: str, patch: int) -> None:
        """A device says what it runs."""
        running = ImageId.of_file(bytes.fromhex(image_of(app, patch)))
        info = DeviceInfo(app, boot_id=patch, device_id=f"id-{app}", version=f"4.3.{patch}", running=running)
        await self._store.run(lambda db: db.save_contact(app, info))

    async def job(self, app: str, patch: int, state: JobState = JobState.QUEUED) -> Job:
        """The planner makes a job."""
        payload = message_of(app, patch)
        sha256, version = hashlib.sha256(payload).hexdigest(), f"4.3.{patch}"
        command = CreateJob(app, 1, sha256, "4.3.1", version, state, 1_000 + patch, "cc" * 32)
        job = await self._store.run(lambda db: db.create_job(command))
        assert job is not None
        return self._stands(job)

    async def move(self, job: Job, *states: JobState) -> Job:
        """A transfer goes on."""
        for state in states:
            changes: dict[str, Any] = {"image_sha256": image_of(job.device, int(job.version[-1]))}
            job = self._stands(await self._store.run(lambda db: db.move_job(job.id, state, **changes)))  # noqa: B023
        return job

    async def arm(self, job: Job) -> Job:
        """An SMP device has agreed to try the image; now it may be restarted."""
        armed = await self._store.run(lambda db: db.update_job(job.id, is_armed=True))
        self._say(Armed(job.id))
        return self._stands(armed)

    async def succeed(self, job: Job) -> None:
        """A device was heard to run it, and its mark goes up."""
        assert job.timestamp_ms is not None
        self._say(Activated(job.device, job.version))
        mark = RollbackMark(job.timestamp_ms, b"c" * 32)
        boards = BoardKey(job.device, "id", f"id-{job.device}"), BoardKey(job.device, "link", "/dev/ttyS0")
        self._stands(await self._store.run(lambda db: db.succeed(job.id, mark, boards=boards)))
        self.looked()

    def _stands(self, job: Job) -> Job:
        later = {str(state) for state in JobState}
        self._say(Answered(job.id, frozenset({str(job.state)} if job.state in ENDED else later)))
        return job

    async def pause(self, name: str) -> None:
        await self._store.run(lambda db: db.pause(name, "ann"))
        self.looked()

    async def resume(self, name: str) -> None:
        self._say(Resumed(name))  # before: at a cut in between either is right
        await self._store.run(lambda db: db.resume(name))

    async def withdraw(self, app: str) -> None:
        await self._store.withdraw(f"/a/{app}/u/4.3")
        self._say(Withdrawn(f"/a/{app}/u/4.3"))
        await self._store.run(lambda db: db.sweep_spool())

    async def tidy(self, app: str) -> None:
        """Forget the older messages of a topic, and then their files."""
        releases: list[Release] = await self._store.run(lambda db: db.releases())
        old = [one.id for one in releases if one.app_id == app][:-1]
        await self._store.run(lambda db: db.drop_releases(old))
        await self._store.run(lambda db: db.sweep_spool())


async def first(life: Life) -> None:
    """Messages for three devices, updates, a newer message, a pause, a withdrawal."""
    for app in DEVICES:
        await life.message(app, 2)
        await life.contact(app, 1)
    going = JobState.TRANSFERRING, JobState.STAGED, JobState.ACTIVATING
    sensor = await life.arm(await life.move(await life.job("sensor", 2), *going))
    pump = await life.move(await life.job("pump", 2), *going)
    tag = await life.move(await life.job("tag", 2, JobState.OFFERED), JobState.QUEUED, going[0])
    await life.contact("pump", 2)
    await life.succeed(pump)
    await life.contact("sensor", 2)
    await life.succeed(sensor)
    await life.pause("fan")
    await life.message("pump", 3)
    await life.tidy("pump")
    await life.withdraw("fan")
    await life.resume("fan")
    await life.pause("tag")
    await life.move(tag, *going[1:])
    await life.succeed(tag)
    await life.message("tag", 3)
    await life.job("pump", 3)


async def again(life: Life) -> None:
    """A start on what is there, and a little more."""
    life.looked()
    await life.message("fan", 4)
    await life.message("pump", 4)
    await life.tidy("pump")
    await life.pause("*")


LIVES = {"first": first, "again": again}


async def live(folder: Path, said: Path, name: str, synchronous: str) -> None:
    """Go through a life, and end as a kill does: nothing is closed."""
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def say(event: Told) -> None:
        os.write(out, f"{written(event)}\n".encode())

    if synchronous != "FULL":
        weaken(synchronous)
    async with Store(folder / STATE) as store:
        await LIVES[name](Life(store, folder / STATE, say))
        os._exit(0)


def weaken(synchronous: str) -> None:
    """Let SQLite sync less: what the suite must notice."""
    prepare = schema.prepare

    def prepared(connection: Any, path: Path) -> None:
        prepare(connection, path)
        connection.execute(f"PRAGMA synchronous = {synchronous}")

    tables.prepare = prepared  # type: ignore[attr-defined]  # this is how to break it


def written(event: Told) -> str:
    return json.dumps([type(event).__name__, {k: _plain(v) for k, v in asdict(event).items()}])


_PLAIN: dict[str, Callable[..., Told]] = {
    kind.__name__: kind for kind in (Committed, Acknowledged, Withdrawn, Resumed, Activated, Armed)
}


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value


def event_of(text: str) -> Told:
    """Read what `written` wrote."""
    kind, values = json.loads(text)
    match kind:
        case "Published":
            return Published(**{**values, "devices": frozenset(values["devices"])})
        case "Answered":
            return Answered(values["job"], frozenset(values["states"]))
        case "Looked":
            marks = frozenset((name, mark) for name, mark in values["marks"])
            jobs = tuple(StoredJob(**job) for job in values["jobs"])
            messages, pauses = frozenset(values["messages"]), frozenset(values["pauses"])
            return Looked(messages, jobs, marks, pauses, values["is_replaced"])
    return _PLAIN[kind](**values)


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
