"""A second protocol through the real planner, scheduler and attempt: its folder, one line, and nothing else.

The line is the one in the registry; here `registered` adds it. What LAMP is: tests/lab/lamp.
"""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from lab.board import Bench
from lab.commands_rig import Rig
from lab.jobs import a_device, timeless
from lab.lamp.device import Lamp, LampLink
from lab.lamp.kind import LAMP, crc_name

from gatewayd.delivery.attempt import Attempt
from gatewayd.delivery.sessions import make_session
from gatewayd.jobs.transitions import JobState
from gatewayd.planning.planner import plan
from gatewayd.protocol.registry import PROTOCOLS
from gatewayd.store.database import Database
from gatewayd.store.store import Store

OLD, NEW = (b"LAMP" + random.Random(seed).randbytes(2000) for seed in (1, 2))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the line."""
    monkeypatch.setitem(PROTOCOLS, LAMP.name, LAMP)


@asynccontextmanager
async def a_bench(folder: Path, lamp: Lamp, *, install: str = "auto") -> AsyncIterator[Bench]:
    device = a_device(name="lamp-1", protocol="lamp", probe="job", install=install)
    async with Store(folder) as store:
        bench = Bench(store, {}, device)
        bench.deps = replace(
            bench.deps,
            make_link=lambda _device: LampLink(lamp),
            make_session=lambda device: make_session(bench.settings, device),
        )
        yield bench


@asynccontextmanager
async def a_rig(folder: Path, lamp: Lamp, *, install: str = "auto") -> AsyncIterator[Rig]:
    async with a_bench(folder, lamp, install=install) as bench:
        rig = Rig(bench)
        running = [asyncio.create_task(work()) for work in (rig.scheduler.run, rig.reconciler.run)]
        await rig.reconciler.settled()
        yield rig
        for task in running:
            task.cancel()
        await asyncio.wait(running)


def a_new_lamp() -> Lamp:
    lamp = Lamp(OLD, "4.3.1")
    lamp.next_version = "4.3.2"
    return lamp


def stored(folder: Path) -> tuple[str, bool]:
    """What another process reads of the job: its state, and whether it is armed."""
    connection = sqlite3.connect(folder / "gatewayd.db")
    state, is_armed = connection.execute("SELECT state, is_armed FROM jobs").fetchone()
    connection.close()
    return state, bool(is_armed)


@timeless
async def test_from_the_offer_to_success(tmp_path: Path) -> None:
    lamp = a_new_lamp()
    async with a_rig(tmp_path, lamp, install="manual") as rig:
        await rig.publish(2, NEW)
        assert await rig.states() == ["4.3.2 offered"]
        await rig.commands.approve("lamp-1", "root")
        job = await rig.until_state(JobState.SUCCEEDED)
        assert (lamp.running, lamp.state, lamp.boots) == (NEW, "steady", [NEW])
        assert (job.image, job.is_armed) == (crc_name(NEW), True)
        assert rig.bench.witness.states[-5:] == [
            *("transferring", "staged", "activating", "activating", "succeeded")
        ]
        assert await codes(rig) == ["up_to_date"]
        record = (await rig.bench.store.run(Database.devices))["lamp-1"]
        assert record.info is not None
        assert (record.info.running, record.info.app_id) == (crc_name(NEW), None)


@timeless
async def test_activating_is_stored_before_it_is_armed_and_armed_before_it_restarts(tmp_path: Path) -> None:
    lamp = a_new_lamp()
    seen: list[tuple[str, bool]] = []
    lamp.on_arm = lamp.on_boot = lambda: seen.append(stored(tmp_path))
    async with a_rig(tmp_path, lamp) as rig:
        await rig.publish(2, NEW)
        await rig.until_state(JobState.SUCCEEDED)
    assert seen == [("activating", False), ("activating", True)]


@timeless
async def test_what_was_taken_back_looks_as_before_and_is_not_tried_again(tmp_path: Path) -> None:
    lamp = a_new_lamp()
    lamp.gives_up = True
    before = lamp.answer("who?")
    async with a_rig(tmp_path, lamp) as rig:
        await rig.publish(2, NEW)
        job = await rig.until_state(JobState.FAILED)
        assert job.code == "reverted"
        assert lamp.answer("who?") == before
        await asyncio.sleep(24 * 3600)
        assert await rig.states() == ["4.3.2 failed"]
    assert lamp.boots == [NEW, OLD]


class Killed(BaseException):
    """The gateway's process ended."""


@pytest.mark.parametrize(("moment", "armings", "orders"), [("on_arm", 2, 1), ("on_boot", 1, 2)])
@timeless
async def test_a_gateway_that_dies_in_between_goes_on_where_it_was(
    tmp_path: Path, moment: str, armings: int, orders: int
) -> None:
    lamp = a_new_lamp()
    seen: list[str] = []

    def note(where: str) -> None:
        seen.append(where)
        if seen.count(moment) == 1 and where == moment:
            raise Killed

    lamp.on_arm, lamp.on_boot = (lambda: note("on_arm")), (lambda: note("on_boot"))
    async with a_bench(tmp_path, lamp) as bench:
        with pytest.raises(Killed):
            await Attempt(bench.deps, bench.settings, bench.device, await bench.a_job(2, NEW)).deliver()
    puts = lamp.puts
    async with a_bench(tmp_path, lamp) as bench:
        await bench.store.run(Database.recover)
        job = await Attempt(bench.deps, bench.settings, bench.device, await bench.job()).deliver()
    assert job.state is JobState.SUCCEEDED
    assert (lamp.running, lamp.boots, lamp.puts) == (NEW, [NEW], puts)
    assert (seen.count("on_arm"), seen.count("on_boot")) == (armings, orders)


@timeless
async def test_an_image_that_is_none_of_its_kind_is_not_sent(tmp_path: Path) -> None:
    lamp = a_new_lamp()
    async with a_rig(tmp_path, lamp) as rig:
        await rig.publish(2, random.Random(3).randbytes(2000))
        job = await rig.until_state(JobState.FAILED)
        assert (job.code, lamp.puts) == ("bad_firmware", 0)


@timeless
async def test_a_device_that_calls_the_image_otherwise_has_it_all_the_same(tmp_path: Path) -> None:
    lamp = a_new_lamp()
    lamp.next_version = "4.3.0"
    async with a_rig(tmp_path, lamp) as rig:
        await rig.publish(2, NEW)
        assert (await rig.until_state(JobState.SUCCEEDED)).code == "version_differs"
        await asyncio.sleep(24 * 3600)
        assert await rig.states() == ["4.3.2 succeeded"]
        assert await codes(rig) == ["up_to_date"]


async def codes(rig: Rig) -> list[str]:
    """What the planner says now."""
    return [one.code for one in plan(rig.bench.settings, await rig.reconciler.known()).decisions]


@timeless
async def test_a_restart_that_nobody_asked_for_after_arming_is_a_trial_all_the_same(tmp_path: Path) -> None:
    lamp = a_new_lamp()
    lamp.on_boot = lamp.restart  # power fails just as it was told to: it boots twice, and so goes back
    async with a_rig(tmp_path, lamp) as rig:
        await rig.publish(2, NEW)
        assert (await rig.until_state(JobState.FAILED)).code == "reverted"
    assert lamp.running == OLD
