"""Install what is on offer, and only that: approve it, try it again, or begin it now."""

import asyncio
from collections import deque
from pathlib import Path

import pytest
from lab.commands_rig import Rig, a_rig
from lab.jobs import a_device, timeless

from gatewayd.errors import DeviceError, LinkError, RequestError
from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.session import Failed

STALLED = Failed(DeviceError("nothing moves", code="stalled"))


async def refused(rig: Rig, version: str, name: str = "pump-1") -> str:
    before = await rig.states()
    with pytest.raises(RequestError) as caught:
        await rig.commands.install(name, version, "mqtt")
    assert await rig.states() == before
    return caught.value.code


@timeless
async def test_what_is_offered_is_approved_and_another_version_is_not(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job", install="manual")) as rig:
        assert await refused(rig, "4.3.2") == "not_on_offer"
        await rig.publish()
        for version in ("4.3.1", "4.3.3", "", "4.3.2 "):
            assert await refused(rig, version) == "not_on_offer"
        assert await refused(rig, "4.3.2", "pump-9") == "no_such_device"
        await rig.commands.install("pump-1", "4.3.2", "mqtt")
        await rig.until_moving()
        assert await refused(rig, "4.3.2") == "job_under_way"
        await rig.until_state(JobState.SUCCEEDED)
        assert await refused(rig, "4.3.2") == "not_on_offer"


@timeless
async def test_what_failed_is_tried_again_without_a_second_press(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job", install="manual", attempts=1)) as rig:
        rig.board.says["offer"] = deque([STALLED])
        await rig.publish()
        await rig.commands.install("pump-1", "4.3.2", "mqtt")
        await rig.until_state(JobState.FAILED)
        await rig.commands.install("pump-1", "4.3.2", "mqtt")
        await rig.until_state(JobState.SUCCEEDED, 2)


@timeless
async def test_what_was_cancelled_is_tried_again(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job", install="manual")) as rig:
        await rig.publish()
        await rig.commands.cancel("pump-1", "ann")
        await rig.commands.install("pump-1", "4.3.2", "mqtt")
        await rig.until_state(JobState.SUCCEEDED, 2)


@timeless
async def test_what_was_taken_back_is_never_tried_again(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        rig.board.gives_up = True
        await rig.publish()
        await rig.until_state(JobState.FAILED)
        rig.board.gives_up = False
        assert await refused(rig, "4.3.2") == "reverted"
        assert len(rig.board.started) == 1


@timeless
async def test_what_waits_begins_now(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        rig.board.cannot_open = LinkError("unplugged", code="link_missing")
        await rig.publish()
        await asyncio.sleep(3600)
        assert await rig.states() == ["4.3.2 queued"]
        rig.board.cannot_open = None
        await rig.commands.install("pump-1", "4.3.2", "mqtt")
        async with asyncio.timeout(20):
            await rig.until_state(JobState.SUCCEEDED)


@timeless
async def test_a_pause_is_a_persons_and_no_button_ends_it(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job", install="manual")) as rig:
        await rig.commands.pause(["pump-1"], "ann")
        await rig.publish()
        await rig.commands.install("pump-1", "4.3.2", "mqtt")  # approved: it begins once the pause is over
        await asyncio.sleep(60)
        assert await rig.states() == ["4.3.2 queued"]
        assert await refused(rig, "4.3.2") == "paused"
