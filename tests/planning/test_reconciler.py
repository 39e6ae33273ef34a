"""From what changed to what is done about it, with a real store and a scheduler that only listens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from lab.jobs import IMAGE, TOPIC, TOPIC_TEXT, a_device, an_info, message, some_settings, timeless, until
from structlog.testing import capture_logs

from gatewayd.config import Device, Settings
from gatewayd.errors import HostError
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.model import Job, Plan
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.topic import Channel, OtaTopic
from gatewayd.planning.reconciler import STORAGE_RETRY_S, Reconciler
from gatewayd.store.database import Database
from gatewayd.store.store import Store

if TYPE_CHECKING:
    from gatewayd.delivery.scheduler import Scheduler


class Listener:
    """In the scheduler's place."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.assigned = 0
        self.cancelled: list[int] = []
        self.while_cancelling: Callable[[int], Awaitable[None]] | None = None

    def assign(self, settings: Settings, jobs: dict[str, Job], paused: Collection[str]) -> None:
        assert not paused
        assert settings.devices
        self.jobs = jobs
        self.assigned += 1

    async def cancel(self, job_id: int, code: str, reason: str) -> None:
        assert code
        assert reason
        self.cancelled.append(job_id)
        if self.while_cancelling:
            await self.while_cancelling(job_id)


class Rig:
    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.listener = Listener()
        self.plans: list[Plan] = []
        self.reconciler = Reconciler(
            settings,
            store,
            FirmwareReader(store.spool),
            cast("Scheduler", self.listener),
            on_plan=lambda plan, _: self.plans.append(plan),
        )

    async def publish(self, payload: bytes, topic: OtaTopic = TOPIC, text: str = TOPIC_TEXT) -> bool:
        changed = await self.store.add_release(topic, text, payload)
        await self.settle()
        return changed

    async def settle(self) -> None:
        """Let it hear of a change, and come to rest."""
        self.reconciler.changed()
        for _ in range(50):
            before = self.listener.assigned
            await asyncio.sleep(0.01)
            if self.listener.assigned == before:
                return
        pytest.fail("it does not come to rest")

    async def states(self) -> list[str]:
        return [str(job.state) for job in await self.store.run(Database.jobs)]

    def codes(self) -> list[str]:
        return [decision.code for decision in self.plans[-1].decisions]


@asynccontextmanager
async def a_rig(folder: Path, *devices: Device) -> AsyncIterator[Rig]:
    async with Store(folder) as store:
        rig = Rig(store, some_settings(*(devices or (a_device(),))))
        running = asyncio.create_task(rig.reconciler.run())
        await rig.settle()
        yield rig
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])


@timeless
async def test_a_release_is_verified_and_becomes_a_job(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        assert rig.codes() == ["no_release"]
        assert rig.plans[-1].topics == {TOPIC_TEXT}
        await rig.publish(message(2, IMAGE))
        assert rig.codes() == ["update"]
        assert rig.listener.jobs["pump-1"].version == "4.3.2"
        assert await rig.states() == ["queued"]


@timeless
async def test_a_job_whose_keys_cannot_be_used_waits_and_is_not_ended(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish(message(2, IMAGE))
        before = rig.reconciler.settings
        keyless = some_settings(a_device(payload="advanced", keys="pump"), key_sets={})
        unusable = {"pump": "decrypt.key.bin cannot be read"}
        await rig.reconciler.configure(keyless.model_copy(update={"unusable_keys": unusable}))
        await rig.settle()
        assert rig.codes() == ["keys_unusable"]
        assert rig.listener.jobs == {}, "its port is left alone"
        assert await rig.states() == ["queued"]
        await rig.reconciler.configure(before)
        await rig.settle()
        assert list(rig.listener.jobs) == ["pump-1"]


@timeless
async def test_asking_again_changes_nothing_and_the_log_says_things_once(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish(message(2, IMAGE))
        with capture_logs() as logs:
            for _ in range(5):
                await rig.settle()
        assert logs == []
        assert await rig.states() == ["queued"]


@timeless
async def test_a_withdrawn_release_ends_its_job_after_the_attempt(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish(message(2, IMAGE))
        seen = []

        async def look(_: int) -> None:
            seen.extend(await rig.states())

        rig.listener.while_cancelling = look
        await rig.store.withdraw(TOPIC_TEXT)
        await rig.settle()
        assert (rig.listener.cancelled, seen) == ([1], ["queued"])
        assert await rig.states() == ["cancelled"]
        assert rig.listener.jobs == {}
        assert [path for path in (tmp_path / "spool").iterdir() if path.is_file()] == []


@timeless
async def test_a_newer_release_takes_the_place_of_a_job_that_waits(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish(message(2, IMAGE))
        await rig.publish(message(3, IMAGE[::-1]))
        assert await rig.states() == ["superseded", "queued"]
        assert rig.listener.jobs["pump-1"].version == "4.3.3"
        (release,) = await rig.store.run(Database.releases)
        assert [path.name for path in (tmp_path / "spool").iterdir() if path.is_file()] == [release.sha256]


@timeless
async def test_a_job_that_moved_on_in_the_meantime_stands(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish(message(2, IMAGE))

        async def activate(job_id: int) -> None:
            for state in (JobState.TRANSFERRING, JobState.STAGED, JobState.ACTIVATING):
                await rig.store.run(lambda db, state=state: db.move_job(job_id, state))  # type: ignore[misc]

        rig.listener.while_cancelling = activate
        await rig.store.withdraw(TOPIC_TEXT)
        await rig.settle()
        assert await rig.states() == ["activating"]
        assert rig.listener.jobs["pump-1"].state is JobState.ACTIVATING


@timeless
async def test_a_refusal_is_told_once_and_becomes_no_job(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(payload="advanced")) as rig:
        with capture_logs() as logs:
            await rig.publish(message(2, b"no container"))
            await rig.settle()
        assert rig.codes() == ["bad_magic"]
        told = [entry for entry in logs if entry["event"] == "decision" and entry["code"] != "verifying"]
        assert [(entry["code"], entry["log_level"]) for entry in told] == [("bad_magic", "warning")]
        assert await rig.states() == []


@timeless
async def test_one_damaged_file_keeps_nobody_else_waiting_and_is_repaired_by_publishing(
    tmp_path: Path,
) -> None:
    fan = OtaTopic("fan", 4, 3, Channel.NONE)
    async with a_rig(tmp_path, a_device(), a_device("fan-1", app_id="fan")) as rig:
        damaged = message(2, IMAGE + b"damaged")
        await rig.store.add_release(TOPIC, TOPIC_TEXT, damaged)
        (release,) = await rig.store.run(Database.releases)
        (tmp_path / "spool" / release.sha256).write_bytes(b"rot")
        await rig.publish(message(2, IMAGE), fan, "/a/fan/u/4.3")
        assert rig.codes() == ["spool_damaged", "update"]
        assert rig.listener.jobs.keys() == {"fan-1"}
        assert await rig.publish(damaged)
        assert rig.codes() == ["update", "update"]


@timeless
async def test_while_storage_fails_it_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_rig(tmp_path) as rig:
        failures: list[float] = []
        loop = asyncio.get_running_loop()

        def fail(_: Database) -> None:
            failures.append(loop.time())
            raise HostError("disk full", code="storage_failed")

        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(Database, "devices", fail)
            rig.reconciler.changed()
            await until(lambda: len(failures) == 3)
        assert failures[1] - failures[0] == pytest.approx(STORAGE_RETRY_S)
        assert {entry["event"] for entry in logs} == {"cannot plan"}
        await rig.store.add_release(TOPIC, TOPIC_TEXT, message(2, IMAGE))
        await until(lambda: rig.codes() == ["update"], limit_s=STORAGE_RETRY_S + 1)


@timeless
async def test_a_device_that_is_heard_of_after_a_failure_gets_another_job(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish(message(2, IMAGE))
        await rig.store.run(lambda db: db.move_job(1, JobState.FAILED, code="no_answer"))
        await rig.settle()
        assert rig.codes() == ["no_answer"]
        await rig.store.run(lambda db: db.save_contact("pump-1", an_info()))
        await rig.settle()
        assert await rig.states() == ["failed", "queued"]
