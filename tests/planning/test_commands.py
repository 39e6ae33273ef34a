"""What a person may do, on a whole gateway of jobs: store, planner, scheduler and boards, in virtual time."""

import asyncio
import hashlib
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from lab.board import Board, a_bench
from lab.commands_rig import IMAGE, a_rig
from lab.jobs import a_device, an_rcp_info, timeless, until

from gatewayd.errors import DeviceError, FirmwareError, GatewaydError, LinkError, RequestError
from gatewayd.jobs.eligibility import push_topic
from gatewayd.jobs.model import EVERYTHING
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.version import Version
from gatewayd.protocol.session import Failed, ImageState
from gatewayd.store.database import Database


async def refused(work: Any) -> GatewaydError:
    with pytest.raises(GatewaydError) as caught:
        await work
    return caught.value


@timeless
async def test_what_waits_for_approval_begins_with_it_and_only_then(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job", install="manual")) as rig:
        await rig.publish()
        await asyncio.sleep(3600)
        assert await rig.states() == ["4.3.2 offered"]
        outcome = await rig.commands.approve("pump-1", "root")
        assert outcome.job is not None
        assert outcome.job.state in (JobState.QUEUED, JobState.TRANSFERRING)
        await rig.until_state(JobState.SUCCEEDED)
        again = await refused(rig.commands.approve("1", "root"))
        assert again.code == "no_active_job"


@timeless
async def test_a_running_job_needs_no_approval(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish()
        await rig.until_moving()
        assert (await refused(rig.commands.approve("pump-1", "root"))).code == "not_offered"
        await rig.until_state(JobState.SUCCEEDED)


@timeless
async def test_cancelling_stops_the_transfer_and_the_release_is_left_until_somebody_wants_it(
    tmp_path: Path,
) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish()
        await rig.until_moving()
        outcome = await rig.commands.cancel("pump-1", "ann")
        assert outcome.job is not None
        assert (outcome.job.state, outcome.job.code, outcome.job.reason) == (
            JobState.CANCELLED,
            "cancelled",
            "cancelled by ann",
        )
        assert not rig.board.is_open
        opened = len(rig.board.opened_at)
        await asyncio.sleep(24 * 3600)
        assert await rig.states() == ["4.3.2 cancelled"]
        assert len(rig.board.opened_at) == opened
        (attempt,) = await rig.attempts()
        assert (attempt.code, attempt.reason) == ("cancelled", "cancelled by ann")
        assert attempt.ended_at
        outcome = await rig.commands.retry("pump-1", "ann")
        assert outcome.job is not None
        assert outcome.job.id == 2
        assert (await rig.until_state(JobState.SUCCEEDED, 2)).resumes == 1
        assert await rig.states() == ["4.3.2 cancelled", "4.3.2 succeeded"]


@timeless
async def test_a_newer_release_is_installed_although_the_last_was_cancelled(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish()
        await rig.commands.cancel("pump-1", "ann")
        await rig.publish(3, IMAGE[::-1])
        await rig.until_state(JobState.SUCCEEDED, 2)
        assert await rig.states() == ["4.3.2 cancelled", "4.3.3 succeeded"]


@timeless
async def test_what_was_activated_is_past_cancelling_and_past_pausing(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        rig.board.boot_s = 20.0
        await rig.publish()
        await rig.until_state(JobState.ACTIVATING)
        await asyncio.sleep(2)
        assert (await refused(rig.commands.cancel("pump-1", "ann"))).code == "too_late"
        await rig.commands.pause([], "ann")
        assert (await rig.until_state(JobState.SUCCEEDED)).attempt == 1


@pytest.mark.slow
@timeless
async def test_a_pause_frees_the_port_at_once_and_outlasts_a_restart(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device()) as rig:
        await rig.publish()
        await rig.until_moving()
        await rig.commands.pause(["pump-1"], "ann")
        assert not rig.board.is_open
        job = await rig.last()
        assert (job.state, job.code, job.reason, job.failures) == (
            JobState.QUEUED,
            "paused",
            "paused by ann",
            0,
        )
        opened = len(rig.board.opened_at)
        await asyncio.sleep(24 * 3600)
        assert len(rig.board.opened_at) == opened
        assert (await refused(rig.commands.retry("pump-1", "ann"))).code == "paused"
    async with a_rig(tmp_path, a_device()) as rig:
        await asyncio.sleep(24 * 3600)
        assert rig.board.opened_at == []  # not even to ask who is there
        (outcome,) = await rig.commands.resume(["pump-1"], "ann")
        assert outcome.text == "pump-1 goes on"
        await rig.until_state(JobState.SUCCEEDED)


@timeless
async def test_pausing_everything_and_one_device_are_two_things(tmp_path: Path) -> None:
    devices = [a_device(name, probe="job") for name in ("pump-1", "pump-2")]
    async with a_rig(tmp_path, *devices) as rig:
        await rig.commands.pause(["pump-1"], "ann")
        await rig.commands.pause([], "bob")
        await rig.publish()
        await asyncio.sleep(3600)
        assert not any(board.opened_at for board in rig.bench.boards.values())
        (one,) = await rig.commands.resume(["pump-1"], "ann")
        assert one.text == "pump-1 stays paused with everything else (gatewayctl resume)"
        await rig.commands.pause(["pump-1"], "ann")
        texts = [outcome.text for outcome in await rig.commands.resume([], "bob")]
        assert texts == ["pump-1 stays paused by ann (gatewayctl resume pump-1)", "pump-2 goes on"]
        await until(lambda: any(job.state is JobState.SUCCEEDED for job in rig.bench.witness.moves))
        assert not rig.bench.boards["pump-1"].opened_at


@timeless
async def test_pausing_twice_keeps_who_was_first(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.commands.pause([], "ann")
        await rig.commands.pause([], "bob")
        assert (await rig.reconciler.known()).pauses[EVERYTHING].by == "ann"


@timeless
async def test_trying_again_does_not_wait_for_the_back_off(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job", attempts=50)) as rig:
        rig.board.is_silent = True
        await rig.publish()
        await asyncio.sleep(1800)
        job = await rig.last()
        assert job.state is JobState.QUEUED
        rig.board.is_silent = False
        opened = len(rig.board.opened_at)
        outcome = await rig.commands.retry("pump-1", "ann")
        assert outcome.text == "job 1 (4.3.2) is tried now"
        await asyncio.sleep(0.1)
        assert len(rig.board.opened_at) == opened + 1
        await rig.until_state(JobState.SUCCEEDED)


@timeless
async def test_a_failed_job_is_tried_again_by_a_new_one(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        stalled = Failed(DeviceError("nothing moves", code="stalled"))
        rig.board.says["offer"] = deque([stalled] * 5)
        await rig.publish()
        await rig.until_state(JobState.FAILED)
        await asyncio.sleep(3600)
        assert await rig.states() == ["4.3.2 failed"]
        outcome = await rig.commands.retry("1", "ann")
        assert outcome.text == "job 2 (4.3.2) replaces job 1"
        await rig.until_state(JobState.SUCCEEDED, 2)
        assert (await refused(rig.commands.cancel("1", "ann"))).code == "not_the_last_job"


@timeless
async def test_an_image_that_was_given_up_is_not_tried_again_on_demand_either(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        rig.board.gives_up = True
        await rig.publish()
        await rig.until_state(JobState.FAILED)
        error = await refused(rig.commands.retry("pump-1", "ann"))
        assert error.code == "reverted"
        assert "publish a repaired image" in str(error)
        await asyncio.sleep(3600)
        assert len(rig.board.started) == 1


@timeless
@pytest.mark.parametrize("code", ["pairing_failed", "no_service"])
async def test_a_radio_that_gave_no_access_is_asked_again_until_it_does(tmp_path: Path, code: str) -> None:
    """And then the update goes on, without a person."""
    async with a_rig(tmp_path, a_device(attempts=2)) as rig:
        rig.board.cannot_open = LinkError("no access", code=code)
        await rig.publish()
        assert (await rig.until_state(JobState.FAILED)).code == code
        await asyncio.sleep(7200)
        assert await rig.states() == ["4.3.2 failed"]
        rig.board.cannot_open = None
        assert (await rig.until_state(JobState.SUCCEEDED, 2)).failures == 0


@timeless
async def test_trying_again_without_a_job_asks_the_device_who_it_is(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.commands.retry("pump-1", "ann")
        await until(lambda: rig.board.heard == ["hello"])


@timeless
async def test_a_push_is_the_same_job_and_is_over_when_it_is_done(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        outcome = await rig.commands.push("pump-1", Version(4, 3, 7), IMAGE, "ann")
        assert outcome.job is not None
        assert (outcome.job.topic, outcome.job.version) == (push_topic("pump-1"), "4.3.7")
        assert outcome.job.decision == "it is believed to run 4.3.1, and 4.3.7 was pushed to it"
        await rig.until_state(JobState.SUCCEEDED)
        await rig.reconciler.settled()
        assert await rig.bench.store.run(Database.releases) == []
        rig.board.info = an_rcp_info(boot_id=9, device_id="B")  # a spare board with old firmware
        rig.scheduler.run_now("pump-1")
        await asyncio.sleep(3600)
        assert await rig.states() == ["4.3.7 succeeded"]  # an order, not a state


@timeless
async def test_a_push_that_failed_may_be_tried_again_or_pushed_again(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job", attempts=1)) as rig:
        stalled = Failed(DeviceError("nothing moves", code="stalled"))
        rig.board.says["offer"] = deque([stalled] * 2)
        await rig.commands.push("pump-1", Version(4, 3, 7), IMAGE, "ann")
        await rig.until_state(JobState.FAILED)
        await rig.commands.push("pump-1", Version(4, 3, 7), IMAGE, "ann")
        await rig.until_state(JobState.FAILED, 2)
        await rig.commands.retry("pump-1", "ann")
        await rig.until_state(JobState.SUCCEEDED, 3)


@timeless
async def test_a_push_is_refused_with_the_planners_reason_and_leaves_nothing(tmp_path: Path) -> None:
    signed = a_device("tank-1", payload="advanced", keys="pump")
    async with a_rig(tmp_path, a_device(probe="job"), signed) as rig:
        push = rig.commands.push
        for name, version, code in (
            ("pump-1", Version(4, 3, 1), "up_to_date"),
            ("pump-1", Version(4, 3, 0), "not_newer"),
            ("pump-1", Version(4, 4, 0), "incompatible"),
            ("tank-1", Version(4, 3, 2), "truncated"),
        ):
            error = await refused(push(name, version, IMAGE, "ann"))
            assert (type(error), error.code) == (FirmwareError, code)
        unknown = await refused(push("pump-9", Version(4, 3, 2), IMAGE, "ann"))
        assert (type(unknown), unknown.code) == (RequestError, "no_such_device")
        assert "did you mean pump-1?" in str(unknown)
        assert await rig.jobs() == []
        assert await rig.bench.store.run(Database.releases) == []


@timeless
async def test_a_push_waits_for_nobody_it_may_not_displace(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish(5, IMAGE + b"published")
        await rig.until_moving()
        older = await refused(rig.commands.push("pump-1", Version(4, 3, 4), IMAGE, "ann"))
        assert older.code == "job_under_way"
        newer = await refused(rig.commands.push("pump-1", Version(4, 3, 6), IMAGE, "ann"))
        assert newer.code == "job_under_way"
        assert "gatewayctl cancel pump-1" in str(newer)
        await rig.until_state(JobState.SUCCEEDED)


@timeless
async def test_a_push_takes_the_place_of_a_job_that_waits(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job", install="manual")) as rig:
        await rig.publish(2)
        await rig.commands.push("pump-1", Version(4, 3, 3), IMAGE + b"pushed", "ann")
        assert await rig.states() == ["4.3.2 superseded", "4.3.3 offered"]


@timeless
async def test_what_is_waiting_for_approval_is_not_tried_again(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job", install="manual")) as rig:
        await rig.publish()
        assert (await refused(rig.commands.retry("pump-1", "ann"))).code == "offered"


@timeless
async def test_targets_that_are_not_there(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        assert (await refused(rig.commands.cancel("7", "ann"))).code == "no_such_job"
        assert (await refused(rig.commands.cancel("²", "ann"))).code == "no_such_device"
        assert (await refused(rig.commands.cancel("pump-1", "ann"))).code == "no_active_job"
        assert (await refused(rig.commands.pause(["pump-1", "x"], "ann"))).code == "no_such_device"
        assert (await rig.reconciler.known()).pauses == {}


@timeless
async def test_the_history_tells_every_attempt_and_counts_those_that_were_alike(tmp_path: Path) -> None:
    (tmp_path / "port").touch()  # a node without hardware behind it, as some drivers leave
    link = {"uart": str(tmp_path / "port")}
    async with a_rig(tmp_path, a_device(probe="job", attempts=20, link=link)) as rig:
        rig.board.is_unplugged = True
        await rig.publish()
        await asyncio.sleep(3600)
        (missing,) = await rig.attempts()
        assert missing.code == "link_missing"
        assert missing.times > 100
        rig.board.is_unplugged = False
        await rig.commands.retry("pump-1", "ann")
        await rig.until_moving()
        missing, open_ = await rig.attempts()
        assert (open_.number, open_.ended_at, open_.code) == (2, "", "")
        rig.board.is_unplugged = True
        await until(lambda: rig.bench.witness.moves[-1].code == "link_lost")
        rig.board.is_unplugged = False
        job = await rig.until_state(JobState.SUCCEEDED)
        attempts = await rig.attempts()
        assert [attempt.code for attempt in attempts] == ["link_missing", "link_lost", ""]
        assert [attempt.offset for attempt in attempts] == [None, 0, 86]
        assert attempts[-1].received == len(IMAGE)
        assert job.decision == "it is believed to run 4.3.1, and 4.3.2 was published on /a/pump/u/4.3"


@timeless
async def test_what_a_stop_interrupted_is_told_by_the_next_start(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish()
        await rig.until_moving()
    async with a_bench(tmp_path / "state", {"pump-1": Board(an_rcp_info())}, a_device()) as bench:
        await bench.store.run(Database.recover)
        (attempt,) = await bench.store.run(lambda db: db.attempts(1))
        assert (attempt.code, bool(attempt.ended_at)) == ("interrupted", True)


@timeless
async def test_an_image_on_trial_is_reported_when_pausing_came_between(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish()
        await rig.until_state(JobState.ACTIVATING)
        await rig.commands.pause(["pump-1"], "ann")
        job = await rig.until_state(JobState.SUCCEEDED)
        assert job.image_sha256 == hashlib.sha256(IMAGE).hexdigest()
        assert rig.board.info.image_state is ImageState.CONFIRMED
