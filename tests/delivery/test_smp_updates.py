"""SMP through the real attempt and scheduler: killed at any step, a device that hangs, one that vanishes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab.board import Bench
from lab.cut_short import CutShort, go_on
from lab.jobs import a_device, timeless
from lab.smp.link import SmpDevice, SmpLink
from lab.smp.memory import HANG, slots
from lab.smp.recipes import Recipe, make_image
from structlog.testing import capture_logs

from gatewayd.delivery.attempt import Attempt
from gatewayd.delivery.sessions import make_session
from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.smp.wire import Framing
from gatewayd.simulator.smp.server import ServerProfile
from gatewayd.store.store import Store

OLD = make_image(Recipe((4, 3, 1, 0)))
NEW = make_image(Recipe((4, 3, 2, 0)))
HANGING = make_image(Recipe((4, 3, 2, 0), b"firmware" * 40 + HANG))
MOST_STEPS = 400


@asynccontextmanager
async def a_bench(folder: Path, device: SmpDevice, **settings: Any) -> AsyncIterator[Bench]:
    entry = a_device(name="sensor-1", protocol="smp", smp={"boot_s": 2, **settings}, probe="job")
    async with Store(folder) as store:
        bench = Bench(store, {}, entry)
        bench.deps = replace(
            bench.deps,
            make_link=lambda _device: SmpLink(device),
            make_session=lambda entry: make_session(bench.settings, entry),
        )
        yield bench


async def cut_and_go_on(folder: Path, device: SmpDevice, image: bytes, steps: int) -> tuple[bool, Any]:
    async with a_bench(folder, device) as bench:
        job = await bench.a_job(image=image)
        cut = CutShort(Attempt(bench.deps, bench.settings, bench.device, job).deliver(), steps)
        await cut
        await bench.store.run(lambda _: None)  # what was being written is written
    async with a_bench(folder, device) as bench:
        await go_on(bench)
        return cut.was_cut, await bench.job()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "state", "vanishes"), [(NEW, JobState.SUCCEEDED, False), (HANGING, JobState.FAILED, True)]
)
@timeless
async def test_an_update_cut_anywhere(tmp_path: Path, image: bytes, state: JobState, vanishes: bool) -> None:
    """Between armed, restarted, reverted and confirmed, too: whatever it is, the image is tried once."""
    for steps in range(1, MOST_STEPS):
        device = SmpDevice(slots(OLD), vanishes=vanishes)
        was_cut, job = await cut_and_go_on(tmp_path / str(steps), device, image, steps)
        where = f"cut at step {steps}"
        assert (job.state, job.code) == (state, "" if image == NEW else "reverted"), where
        assert device.images == ([OLD, NEW] if image == NEW else [OLD, HANGING, OLD]), where
        assert device.server.slots.is_confirmed, where
        assert not device.disturbances, where
        if not was_cut:
            assert steps > 15  # it was cut in enough places
            return
    pytest.fail("it never came through")


@pytest.mark.parametrize(("mode", "warnings"), [(None, 1), (3, 0)])
@timeless
async def test_a_bootloader_that_does_not_say_whether_it_can_go_back_is_mentioned(
    tmp_path: Path, mode: int | None, warnings: int
) -> None:
    device = SmpDevice(slots(OLD), profile=ServerProfile(mode=mode))
    async with a_bench(tmp_path, device) as bench:
        with capture_logs() as logs:
            job = await bench.a_job(image=NEW)
            await Attempt(bench.deps, bench.settings, bench.device, job).deliver()
        assert (await bench.job()).state is JobState.SUCCEEDED
    told = [entry for entry in logs if entry["event"] == "whether the bootloader can go back is not known"]
    assert len(told) == warnings


@pytest.mark.parametrize(("framing", "uploads"), [("console", 1), ("raw", 2)])
@timeless
async def test_an_image_that_the_bootloader_never_accepts_fails_for_good_and_says_why(
    tmp_path: Path, framing: str, uploads: int
) -> None:
    """On a raw UART, where nothing has a checksum, it may have been damaged on the way, and is sent twice."""
    profile = ServerProfile(framing=Framing(framing))
    device = SmpDevice(slots(OLD, verify=lambda _image: False), profile=profile)
    async with a_bench(tmp_path, device, framing=framing) as bench:
        await bench.a_job(image=NEW)
        await go_on(bench)
        job = await bench.job()
        assert (job.state, job.code) == (JobState.FAILED, "image_rejected")
        assert "4.3.1 still runs" in job.reason
        assert device.server.image_bytes == uploads * len(NEW)
        assert set(device.images) == {OLD}
