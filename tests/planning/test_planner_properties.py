"""What holds for the planner in any world."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.jobs import World, a_device, a_release, an_info, digest, genuine

from gatewayd.config import Device
from gatewayd.jobs.eligibility import installed_version
from gatewayd.jobs.model import CreateJob, DeviceRecord, Verdict
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.topic import Channel
from gatewayd.ota.version import Version
from gatewayd.planning.keeping import superfluous
from gatewayd.planning.planner import plan
from gatewayd.protocol.session import ImageState

pytestmark = pytest.mark.slow  # 5 s of a processor; test_planner has the cases

PATCHES = st.sampled_from([0, 1, 2, 3, 4, 2**63, 2**64 - 1])
TIMES = st.sampled_from([100, 200, 300, 2**64 - 1])


@st.composite
def devices(draw: st.DrawFn, name: str) -> Device:
    return a_device(
        name,
        channel=draw(st.sampled_from(["none", "stable", "both"])),
        payload=draw(st.sampled_from(["standard", "advanced"])),
        keys="pump",
        allow_downgrade=draw(st.booleans()),
        install=draw(st.sampled_from(["auto", "manual"])),
        version=f"4.3.{draw(PATCHES)}",
    )


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict | None:
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from([None, Verdict(code="bad_signature", reason="no")]))
    verdict = genuine(draw(PATCHES), draw(TIMES), size=draw(st.sampled_from([100, 2**21])))
    return verdict if draw(st.booleans()) else replace(verdict, timestamp_ms=None)


@st.composite
def records(draw: st.DrawFn, name: str) -> DeviceRecord:
    info = an_info(
        version=f"4.{draw(st.sampled_from([3, 3, 3, 4]))}.{draw(PATCHES)}",
        boot_id=draw(st.integers(1, 2)),
        image_state=draw(st.sampled_from(ImageState)),
        running_sha256=draw(st.sampled_from([None, bytes(32), bytes.fromhex(digest("image 3 200"))])),
        tried_sha256=draw(st.sampled_from([None, bytes.fromhex(digest("image 3 200"))])),
    )
    mark = RollbackMark(200, bytes.fromhex(digest("container image 3 200")))
    return DeviceRecord(
        name,
        draw(st.sampled_from([None, info])),
        draw(st.integers(0, 20)),
        "",
        draw(st.sampled_from([None, mark])),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = ["pump-1", "pump-2"][: draw(st.integers(1, 2))]
    world = World(*[draw(devices(name)) for name in names])
    for id_ in range(1, draw(st.integers(0, 5)) + 1):
        channel = draw(st.sampled_from(Channel))
        world.releases.append(a_release(id_, channel=channel, minor=draw(st.sampled_from([3, 3, 4]))))
        verdict = draw(verdicts())
        if verdict is not None:
            world.judge(world.releases[-1], verdict)
    world.records = {name: draw(records(name)) for name in names if draw(st.booleans())}
    for name in [*names, "gone"]:
        states = draw(
            st.lists(st.sampled_from(["failed", "cancelled", "succeeded", "superseded"]), max_size=2)
        )
        states += draw(
            st.lists(
                st.sampled_from(["offered", "queued", "transferring", "staged", "activating"]), max_size=1
            )
        )
        for state in states:
            about = draw(st.integers(1, 5))
            world.job(
                id=len(world.jobs) + 1,
                device=name,
                state=JobState(state),
                code=draw(
                    st.sampled_from(["", "stalled", "reverted", "no_answer", "cancelled", "spool_damaged"])
                ),
                release_id=about,
                message_sha256=digest(f"message {about}"),
                version=f"4.3.{draw(PATCHES)}",
                timestamp_ms=draw(st.one_of(st.none(), TIMES)),
                updated_seq=draw(st.integers(1, 15)),
                activated_at=draw(st.sampled_from(["", "then"])),
                boot_id=draw(st.sampled_from([None, 1])),
            )
    return world


@given(worlds(), st.randoms(use_true_random=False))
def test_the_answer_depends_on_nothing_else(world: World, random: Random) -> None:
    first = world.plan()
    assert world.plan() == first
    random.shuffle(world.releases)
    assert world.plan().decisions == first.decisions
    assert world.plan().job_changes == first.job_changes


@given(worlds())
def test_once_obeyed_there_is_nothing_more_to_do(world: World) -> None:
    world.obey()
    decisions = world.plan().decisions
    assert world.plan().job_changes == ()
    active = [job.device for job in world.jobs if job.is_active]
    assert len(active) == len(set(active))
    assert len(decisions) == len(world.devices)


@given(worlds())
def test_a_job_is_only_made_for_an_update(world: World) -> None:
    verdict_of = {sha256: verdict for (sha256, _), verdict in world.verdicts.items()}
    for change in world.plan().job_changes:
        if not isinstance(change, CreateJob):
            continue
        device = next(device for device in world.devices if device.name == change.device)
        record = world.records.get(device.name, DeviceRecord(device.name))
        installed, offered = installed_version(device, record), Version.parse(change.version)
        verdict = verdict_of[change.message_sha256]
        assert verdict.is_genuine
        assert offered.line == installed.line
        if device.allow_downgrade:
            continue
        on_trial = record.info is not None and record.info.image_state is ImageState.ON_TRIAL
        assert offered.patch > installed.patch or on_trial
        if record.mark and verdict.timestamp_ms is not None:
            assert verdict.timestamp_ms >= record.mark.timestamp_ms


@given(worlds())
def test_tidying_up_changes_no_answer(world: World) -> None:
    unverified = {
        release.id for release, _, _ in world.plan().to_verify
    }  # tidied up only when there are none
    world.releases = [release for release in world.releases if release.id not in unverified]
    before = world.plan()
    drop = superfluous(world.known)
    world.releases = [release for release in world.releases if release.id not in drop]
    after = plan(world.settings, world.known)
    assert after.job_changes == before.job_changes
    assert [one for one in after.decisions if one.code != "verifying"] == [
        one for one in before.decisions if one.code != "verifying"
    ]
    assert superfluous(world.known) == []
