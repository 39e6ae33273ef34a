"""Values for tests of jobs, and an event loop whose time passes only when everybody waits."""

import asyncio
import functools
import hashlib
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from gatewayd.config import Device, Gateway, Mqtt, Settings
from gatewayd.jobs.eligibility import profile_of
from gatewayd.jobs.model import (
    BoardKey,
    CreateJob,
    Decision,
    DecodeProfile,
    DeviceRecord,
    EndJob,
    Job,
    Plan,
    Release,
    RomFacts,
    Verdict,
)
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.keys import KeySet
from gatewayd.ota.patch import PatchEncoding, encode_patch
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.topic import Channel, OtaTopic
from gatewayd.ota.version import Version
from gatewayd.planning.planner import StoreSnapshot, plan
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.session import DeviceInfo, ImageState

P = ParamSpec("P")
T = TypeVar("T")

KEYS = KeySet(bytes(32), bytes(range(32)))
OTHER_KEYS = KeySet(bytes(32), bytes(range(1, 33)))
RUNNING = b"\x11" * 32  # of the image the devices run to begin with


def digest(text: str) -> str:
    """A SHA-256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def a_device(name: str = "pump-1", **values: Any) -> Device:
    link = values.pop("link", {"uart": f"/nowhere/{name}"})
    return Device(**{"name": name, "app_id": "pump", "version": Version(4, 3, 1), "link": link} | values)


def some_settings(*devices: Device, key_sets: dict[str, KeySet] | None = None) -> Settings:
    return Settings(
        file=Path("config.yaml"),
        gateway=Gateway(id="barn"),
        mqtt=Mqtt(host="127.0.0.1", port=1883),
        devices=devices,
        key_sets={"pump": KEYS} if key_sets is None else key_sets,
    )


def an_info(**values: Any) -> DeviceInfo:
    """What the store and the planner know of a device, from what it said in INFO."""
    return an_rcp_info(**values).common


def an_rcp_info(**values: Any) -> RcpInfo:
    """What a device says in INFO."""
    return replace(
        RcpInfo(
            app_id="pump",
            boot_id=1,
            image_state=ImageState.CONFIRMED,
            max_frame=1034,
            window=4096,
            rx_ring=8192,
            slot_size=1 << 20,
            erase_block=4096,
            write_unit=4,
            boot_time_s=2,
            can_set_baud=False,
            can_revert=True,
            device_id="A",
            version="4.3.1",
            running_sha256=RUNNING,
        ),
        **values,
    )


def a_release(id_: int, *, minor: int = 3, channel: Channel = Channel.NONE, **values: Any) -> Release:
    suffix = {Channel.NONE: "", Channel.STABLE: "/s", Channel.UNSTABLE: "/u"}[channel]
    release = Release(
        id=id_,
        seq=id_,
        topic=f"/a/pump/u/4.{minor}{suffix}",
        app_id="pump",
        major=4,
        minor=minor,
        channel=channel,
        sha256=digest(f"message {id_}"),
        size=1000,
        received_at="",
    )
    return replace(release, **values)


def genuine(patch: int, timestamp_ms: int | None = None, *, size: int = 100, **values: Any) -> Verdict:
    """Standard payload, or with a timestamp a container of one ROM."""
    name = f"image {patch} {timestamp_ms}"
    verdict = Verdict(patch=patch, body_sha256=digest(name), body_size=size, timestamp_ms=timestamp_ms)
    if timestamp_ms is not None:
        rom = RomFacts(0, size, digest(name))
        verdict = replace(verdict, container_sha256=digest(f"container {name}"), roms=(rom,))
    return replace(verdict, **values)


def a_job(**values: Any) -> Job:
    job = Job(
        id=1,
        device="pump-1",
        release_id=1,
        message_sha256=digest("message 1"),
        from_version="4.3.1",
        version="4.3.2",
        state=JobState.QUEUED,
        created_at="",
        updated_at="",
        created_seq=10,
        updated_seq=10,
    )
    return replace(job, **values)


def standard_reading() -> DecodeProfile:
    device = a_device()
    return profile_of(some_settings(device), device)


TOPIC = OtaTopic("pump", 4, 3, Channel.NONE)
TOPIC_TEXT = "/a/pump/u/4.3"


# Large enough, and not text: it passes for firmware.
IMAGE = bytes(range(256))


def message(patch: int, image: bytes) -> bytes:
    """A standard payload, as published."""
    return encode_patch(patch, PatchEncoding.VARINT) + image


class World:
    """What the planner looks at, to be changed step by step; each change returns the world."""

    def __init__(self, *devices: Device) -> None:
        self.devices = list(devices)
        self.key_sets = {"pump": KEYS}
        self.unusable_keys: dict[str, str] = {}
        self.releases: list[Release] = []
        self.verdicts: dict[tuple[str, str], Verdict] = {}
        self.records: dict[str, DeviceRecord] = {}
        self.jobs: list[Job] = []
        self.marks: dict[BoardKey, RollbackMark] = {}
        self.unconfirmed: frozenset[str] = frozenset()

    @property
    def settings(self) -> Settings:
        settings = some_settings(*self.devices, key_sets=self.key_sets)
        return settings.model_copy(update={"unusable_keys": self.unusable_keys})

    @property
    def known(self) -> StoreSnapshot:
        return StoreSnapshot(
            self.releases,
            self.verdicts,
            self.records,
            self.jobs,
            marks=self.marks,
            unconfirmed=self.unconfirmed,
        )

    def publish(self, verdict: Verdict | None, channel: Channel = Channel.NONE, *, minor: int = 3) -> Self:
        release = a_release(len(self.releases) + 1, channel=channel, minor=minor)
        self.releases.append(release)
        if verdict is not None:
            self.judge(release, verdict)
        return self

    def judge(self, release: Release, verdict: Verdict) -> None:
        for device in self.devices:
            self.verdicts[release.sha256, profile_of(self.settings, device).key] = verdict

    def says(
        self, name: str = "pump-1", *, mark: RollbackMark | None = None, contact_seq: int = 99, **info: Any
    ) -> Self:
        self.records[name] = DeviceRecord(name, an_info(**info), contact_seq, "", mark)
        return self

    def job(self, **values: Any) -> Self:
        self.jobs.append(a_job(**values))
        return self

    def plan(self) -> Plan:
        return plan(self.settings, self.known)

    def decision(self) -> Decision:
        return self.plan().decisions[0]

    def code(self) -> str:
        return self.decision().code

    def created(self) -> CreateJob:
        (change,) = self.plan().job_changes
        assert isinstance(change, CreateJob)
        return change

    def ended(self) -> EndJob:
        (change,) = self.plan().job_changes
        assert isinstance(change, EndJob)
        return change

    def obey(self) -> None:
        """Do what the plan says, as the store would."""
        for change in self.plan().job_changes:
            if isinstance(change, EndJob):
                self.jobs = [
                    replace(job, state=change.state, code=change.code) if job.id == change.job_id else job
                    for job in self.jobs
                ]
            else:
                values = {name: getattr(change, name) for name in CreateJob.__slots__}
                self.jobs.append(a_job(id=len(self.jobs) + 1, **values))


class _PatientSelector(selectors.DefaultSelector):
    """Waits for threads as long as they work; otherwise time jumps to the next timer."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None or self.loop.busy:
            return super().select(None)
        self.loop.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour of waiting takes no time, and threads take none of its time."""

    def __init__(self) -> None:
        selector = _PatientSelector()
        selector.loop = self
        self.now = 1000.0
        self.busy = 0
        self._threads: ThreadPoolExecutor | None = None
        super().__init__(selector)
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.now

    def run_in_executor(  # type: ignore[override]  # typeshed's generic form says the same
        self, executor: ThreadPoolExecutor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        if executor is None:
            executor = self._threads = self._threads or ThreadPoolExecutor(1)
        self.busy += 1
        work = executor.submit(func, *args)
        future = asyncio.wrap_future(work, loop=self)
        work.add_done_callback(lambda _: self.call_soon_threadsafe(self._rest))
        return future

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
        super().close()

    def _rest(self) -> None:
        self.busy -= 1


def timeless(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run a test in a loop of its own in virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(test(*args, **kwargs))

    return run


def clock() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def until(condition: Callable[[], bool], limit_s: float = 3600.0) -> None:
    """Let virtual time pass until `condition` holds."""
    deadline = clock() + limit_s
    while not condition():
        assert clock() < deadline, "it did not come to that within the limit"
        await asyncio.sleep(0.05)
