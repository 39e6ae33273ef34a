"""From 4.3 to 4.4: nobody gets there by chance, and everybody who is told to."""

from pathlib import Path

import pytest
from lab.commands_rig import IMAGE, a_rig
from lab.jobs import World, a_device, a_job, a_release, an_info, genuine, timeless

from gatewayd.delivery.admission import check_is_newer
from gatewayd.errors import FirmwareError
from gatewayd.jobs.eligibility import push_topic
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.version import Line, Version
from gatewayd.store.database import Database

TO_4_4 = Line(4, 4)


def test_another_line_is_followed_instead_of_the_one_that_runs() -> None:
    world = World(a_device(line=TO_4_4)).publish(genuine(9)).publish(genuine(1), minor=4)
    assert world.plan().topics == {"/a/pump/u/4.4"}
    assert world.created().version == "4.4.1"
    assert World(a_device()).publish(genuine(1), minor=4).code() == "no_release"


def test_there_it_goes_on_like_any_other() -> None:
    world = World(a_device(line=TO_4_4)).publish(genuine(1), minor=4).says(version="4.4.1")
    assert world.code() == "up_to_date"
    assert world.publish(genuine(2), minor=4).created().version == "4.4.2"


def test_the_order_is_major_minor_patch() -> None:
    world = World(a_device(line=TO_4_4)).publish(genuine(1), minor=4)
    world.job(version="4.3.9", release_id=7, message_sha256="of 4.3.9")
    assert world.plan().job_changes[0].code == "superseded"  # type: ignore[union-attr]


def test_a_line_below_needs_allow_downgrade() -> None:
    world = World(a_device(line=Line(4, 2))).publish(genuine(9), minor=2)
    decision = world.decision()
    assert (decision.code, decision.refused) == ("not_newer", False)
    assert "allow_downgrade: true" in decision.reason
    world = World(a_device(line=Line(4, 2), allow_downgrade=True)).publish(genuine(9), minor=2)
    assert world.created().version == "4.2.9"


def test_the_mark_of_the_board_holds_across_lines() -> None:
    device = a_device(payload="advanced", keys="pump", line=TO_4_4)
    world = World(device).publish(genuine(1, 1000), minor=4)
    assert world.created().version == "4.4.1"
    assert world.says(mark=RollbackMark(2000, b"newer")).code() == "rollback"


@pytest.mark.parametrize(("reported", "passes"), [("4.3.1", True), ("4.3.0", True), ("4.2.9", False)])
def test_a_board_of_a_third_line_is_noticed_when_it_answers(reported: str, passes: bool) -> None:
    """The job was made for the step from 4.3: what runs 4.2 is another board."""
    job = a_job(version="4.4.0", from_version="4.3.1", topic=push_topic("pump-1"))
    info = an_info(version=reported)
    if passes:
        assert check_is_newer(a_device(), info, job) == Version.parse(reported)
        return
    with pytest.raises(FirmwareError) as refused:
        check_is_newer(a_device(), info, job)
    assert refused.value.code == "incompatible"


def test_a_step_is_ordered_from_one_line() -> None:
    world = World(a_device())
    world.releases.append(a_release(1, minor=4, topic=push_topic("pump-1"), from_line="4.3"))
    world.judge(world.releases[0], genuine(0))
    assert world.created().version == "4.4.0"
    world.says(version="4.2.0")
    assert world.code() == "incompatible"


@timeless
async def test_push_with_line_takes_the_step_and_only_with_it(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device(probe="job")) as rig:
        with pytest.raises(FirmwareError) as refused:
            await rig.commands.push("pump-1", Version(4, 4, 0), IMAGE, "ann")
        assert refused.value.code == "incompatible"
        assert "push --line" in str(refused.value)
        await rig.commands.push("pump-1", Version(4, 4, 0), IMAGE, "ann", to_line=True)
        (release,) = await rig.bench.store.run(Database.releases)
        assert release.from_line == "4.3"
        await rig.until_state(JobState.SUCCEEDED)
        with pytest.raises(FirmwareError) as older:
            await rig.commands.push("pump-1", Version(4, 3, 9), IMAGE + b"old", "ann", to_line=True)
        assert older.value.code == "not_newer"
