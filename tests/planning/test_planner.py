"""What the planner says of one device, question by question."""

from dataclasses import replace
from typing import Any

import pytest
from lab.jobs import KEYS, OTHER_KEYS, World, a_device, a_job, a_release, digest, genuine

from gatewayd.errors import FirmwareError
from gatewayd.jobs.eligibility import push_topic
from gatewayd.jobs.model import CreateJob, EndJob, Release, Verdict
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.keys import KeySet
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.topic import Channel
from gatewayd.planning.keeping import superfluous
from gatewayd.planning.planner import plan
from gatewayd.protocol.session import ImageState

ADVANCED = {"payload": "advanced", "keys": "pump"}
BAD = Verdict(code="bad_signature", reason="the signature does not fit")


def one_rom(patch: int, timestamp_ms: int, address: int = 0, size: int = 100) -> Verdict:
    verdict = genuine(patch, timestamp_ms, size=size)
    return replace(verdict, roms=(replace(verdict.roms[0], address=address),))


def test_a_release_becomes_a_job() -> None:
    world = World(a_device()).publish(genuine(2))
    change = world.created()
    assert (change.version, change.from_version, change.state) == ("4.3.2", "4.3.1", JobState.QUEUED)
    assert change.message_sha256 == world.releases[0].sha256


def test_nothing_was_published() -> None:
    assert World(a_device()).code() == "no_release"


def test_a_release_is_verified_before_anything_else() -> None:
    world = World(a_device()).publish(None)
    assert world.code() == "verifying"
    assert [release.id for release, _, _ in world.plan().to_verify] == [1]
    # Also when an older one could be had meanwhile: two updates are worse than one a little later.
    assert World(a_device()).publish(genuine(2)).publish(None).code() == "verifying"


@pytest.mark.parametrize("patch", [0, 1])
def test_an_equal_or_lower_patch_is_no_update(patch: int) -> None:
    world = World(a_device()).publish(genuine(patch))
    decision = world.decision()
    assert not world.plan().job_changes
    assert decision.code == ("up_to_date" if patch == 1 else "not_newer")
    assert not decision.refused


@pytest.mark.parametrize("patch", [2**63 - 1, 2**63, 2**64 - 1])
def test_patches_beyond_63_bits(patch: int) -> None:
    world = World(a_device(version=f"4.3.{patch - 1}")).publish(genuine(patch))
    assert world.created().version == f"4.3.{patch}"
    assert World(a_device(version=f"4.3.{patch}")).publish(genuine(patch - 1)).code() == "not_newer"


def test_a_device_added_later_gets_what_was_published_before() -> None:
    world = World(a_device()).publish(genuine(2)).job(state=JobState.SUCCEEDED).says(version="4.3.2")
    world.devices.append(a_device("pump-2"))
    assert [(change.device) for change in world.plan().job_changes if isinstance(change, CreateJob)] == [
        "pump-2"
    ]


def test_a_spare_board_with_old_firmware_gets_it_again() -> None:
    world = World(a_device()).publish(genuine(2)).job(state=JobState.SUCCEEDED)
    world.says(version="4.3.2", running_sha256=bytes.fromhex(digest("image 2 None")))
    assert world.code() == "up_to_date"
    world.says(version="4.3.0", device_id="B")
    assert world.created().from_version == "4.3.0"


def test_a_corrected_key_makes_another_verdict() -> None:
    world = World(a_device(**ADVANCED)).publish(BAD)
    assert (world.code(), world.decision().refused) == ("bad_signature", True)
    world.key_sets = {"pump": OTHER_KEYS}
    assert world.code() == "verifying"
    world.judge(world.releases[0], genuine(2, 5))
    assert world.created().version == "4.3.2"
    world.key_sets = {"pump": KEYS}
    assert world.code() == "bad_signature"  # the old verdict is still there


def test_a_key_is_no_matter_for_a_standard_payload() -> None:
    world = World(a_device(keys="pump")).publish(genuine(2))
    world.key_sets = {"pump": KeySet()}
    assert world.created()


@pytest.mark.parametrize("state", [JobState.OFFERED, JobState.QUEUED, JobState.TRANSFERRING, JobState.STAGED])
def test_a_withdrawn_release_takes_its_job_with_it(state: JobState) -> None:
    world = World(a_device()).job(state=state)
    assert world.ended() == EndJob(1, JobState.CANCELLED, "withdrawn", "4.3.2 is no longer published for it")


def test_a_job_that_may_have_taken_effect_is_left_to_end() -> None:
    world = World(a_device()).job(state=JobState.ACTIVATING)
    assert not world.plan().job_changes
    world.devices.clear()
    assert not world.plan().job_changes


def test_jobs_of_devices_that_are_configured_no_more_end() -> None:
    world = World().job(state=JobState.TRANSFERRING)
    assert world.ended().code == "not_configured"


def test_a_higher_patch_supersedes_a_job_that_waits() -> None:
    world = World(a_device(**ADVANCED)).publish(genuine(2, 100)).job(timestamp_ms=100)
    world.publish(genuine(3, 100))
    end, create = world.plan().job_changes
    assert isinstance(end, EndJob)
    assert isinstance(create, CreateJob)
    assert (end.state, create.version) == (JobState.SUPERSEDED, "4.3.3")


@pytest.mark.parametrize(
    ("state", "timestamp_ms"),
    [(JobState.TRANSFERRING, 200), (JobState.STAGED, 200), (JobState.ACTIVATING, 200), (JobState.QUEUED, 99)],
    ids=["transferring", "staged", "activating", "older build"],
)
def test_what_supersedes_nothing(state: JobState, timestamp_ms: int) -> None:
    world = World(a_device(**ADVANCED)).publish(genuine(2, 100)).job(state=state, timestamp_ms=100)
    world.publish(genuine(3, timestamp_ms))
    assert not world.plan().job_changes


def test_a_newer_build_with_a_lower_patch_lets_the_waiting_job_stand() -> None:
    world = World(a_device(**ADVANCED, version="4.3.5")).publish(genuine(7, 100))
    world.job(version="4.3.7", timestamp_ms=100).publish(genuine(6, 200))
    assert not world.plan().job_changes
    assert not superfluous(world.known)  # its release stays for as long as it needs it
    assert not world.plan().job_changes


def test_what_nothing_vouches_for_does_not_supersede_what_is_authenticated() -> None:
    device = a_device(**ADVANCED, channel="both", allow_unsigned=True)
    world = World(device).publish(genuine(2, 100), Channel.STABLE).job(timestamp_ms=100)
    world.publish(replace(genuine(9, 1), timestamp_ms=None), Channel.UNSTABLE)
    assert not world.plan().job_changes


def test_a_replayed_old_message_displaces_nothing() -> None:
    world = World(a_device(**ADVANCED)).publish(genuine(3, 300)).publish(genuine(9, 200))
    assert world.created().version == "4.3.3"
    assert superfluous(world.known) == []  # the newest message and the newest genuine one


def test_of_two_channels_the_highest_patch_counts() -> None:
    world = World(a_device(channel="both"))
    world.publish(genuine(5), Channel.UNSTABLE).publish(genuine(4), Channel.STABLE).publish(genuine(9))
    assert world.created().version == "4.3.5"
    assert world.plan().topics == {"/a/pump/u/4.3/s", "/a/pump/u/4.3/u"}


@pytest.mark.parametrize(("channel", "patch"), [("none", 9), ("stable", 4), ("unstable", 5)])
def test_a_device_takes_its_own_channel(channel: str, patch: int) -> None:
    world = World(a_device(channel=channel))
    world.publish(genuine(5), Channel.UNSTABLE).publish(genuine(4), Channel.STABLE).publish(genuine(9))
    assert world.created().version == f"4.3.{patch}"


def test_with_allow_downgrade_two_channels_do_not_lead_back_and_forth() -> None:
    world = World(a_device(channel="both", allow_downgrade=True))
    world.publish(genuine(5), Channel.STABLE).publish(genuine(3), Channel.UNSTABLE)
    world.says(version="4.3.5", running_sha256=bytes.fromhex(digest("image 5 None")))
    assert world.code() == "up_to_date"


def test_a_downgrade_is_what_was_published_last_and_only_by_name() -> None:
    mark = RollbackMark(300, bytes.fromhex(digest("some container")))
    world = (
        World(a_device(**ADVANCED, allow_downgrade=True)).publish(genuine(5, 300)).publish(genuine(3, 200))
    )
    world.says(version="4.3.5", mark=mark)
    assert world.created().version == "4.3.3"
    world.devices = [a_device(**ADVANCED)]
    assert not world.plan().job_changes
    assert set(superfluous(world.known)) == set()


def test_manual_installation_waits_for_a_person() -> None:
    assert World(a_device(install="manual")).publish(genuine(2)).created().state is JobState.OFFERED


def test_a_job_that_waits_for_a_person_goes_on_when_none_is_needed_any_more() -> None:
    world = World(a_device(install="manual")).publish(genuine(2))
    world.obey()
    assert not world.plan().job_changes
    world.devices = [a_device()]
    end, create = world.plan().job_changes
    assert isinstance(end, EndJob)
    assert isinstance(create, CreateJob)
    assert (end.state, create.state, create.version) == (JobState.SUPERSEDED, JobState.QUEUED, "4.3.2")


@pytest.mark.parametrize(
    ("timestamp_ms", "container", "code"),
    [(99, "same", "rollback"), (100, "other", "rollback"), (100, "same", "update"), (101, "other", "update")],
)
def test_the_rollback_mark(timestamp_ms: int, container: str, code: str) -> None:
    verdict = replace(genuine(2, timestamp_ms), container_sha256=digest(container))
    world = World(a_device(**ADVANCED)).publish(verdict)
    world.says(mark=RollbackMark(100, bytes.fromhex(digest("same"))))
    assert world.code() == code
    assert world.decision().refused == (code == "rollback")


def test_an_old_container_under_a_new_number_is_told_although_the_newest_counts() -> None:
    newest, old = genuine(2, 100), genuine(9, 99)
    world = World(a_device(**ADVANCED)).publish(newest).publish(old)
    world.says(version="4.3.2", mark=RollbackMark(100, bytes.fromhex(newest.container_sha256)))
    assert (world.code(), world.decision().refused) == ("rollback", True)
    assert not world.plan().job_changes
    world.publish(genuine(3, 101))
    assert world.created().version == "4.3.3"


def test_a_standard_payload_has_no_mark() -> None:
    world = World(a_device()).publish(genuine(2)).says(mark=RollbackMark(2**64 - 1, bytes(32)))
    assert world.created()


@pytest.mark.parametrize(
    ("address", "slot", "match", "code"),
    [
        (0x2000, 0x2000, "exact", "update"),
        (0x2000, 0x3000, "exact", "no_rom_for_slot"),
        (0x2000, 0x40202000, "exact", "no_rom_for_slot"),
        (0x2000, 0x40002000, "low20", "update"),
        (0x2000, 0x2000, "low20", "update"),
        (0x2000, None, "exact", "update"),
    ],
)
def test_the_rom_for_the_slot(address: int, slot: int | None, match: str, code: str) -> None:
    world = World(a_device(**ADVANCED, slot_match=match)).publish(one_rom(2, 5, address))
    assert world.code() == "update"  # not known yet: the device decides when it is asked
    assert world.says(slot_address=slot).code() == code


def test_two_roms_and_no_slot_address() -> None:
    verdict = one_rom(2, 5)
    verdict = replace(verdict, roms=(verdict.roms[0], replace(verdict.roms[0], address=0x2000)))
    assert World(a_device(**ADVANCED)).publish(verdict).says().code() == "no_rom_for_slot"


def test_the_rom_of_the_other_slot_is_the_same_release() -> None:
    other = replace(one_rom(2, 5).roms[0], address=0x2000, sha256=digest("other slot"))
    verdict = replace(one_rom(2, 5, 0x1000), roms=(*one_rom(2, 5, 0x1000).roms, other))
    world = World(a_device(**ADVANCED)).publish(verdict)
    # It does not report the version that was expected, and its free slot is now the first.
    world.says(version="4.3.1", slot_address=0x1000, running_sha256=bytes.fromhex(digest("other slot")))
    assert world.code() == "up_to_date"


def test_what_runs_needs_no_free_slot_that_fits() -> None:
    world = World(a_device(**ADVANCED)).publish(one_rom(2, 5, 0x1000))
    world.says(version="4.3.2", slot_address=0x2000)
    assert world.code() == "up_to_date"


def test_a_container_is_sent_to_any_slot() -> None:
    world = World(a_device(**ADVANCED, deliver="container")).publish(one_rom(2, 5, 0x1000))
    assert world.says(slot_address=0x2000).code() == "update"


@pytest.mark.parametrize(("size", "code"), [(1 << 20, "update"), ((1 << 20) + 1, "too_large")])
def test_the_slot_size(size: int, code: str) -> None:
    assert World(a_device()).publish(genuine(2, size=size)).says().code() == code


def test_a_refused_message_hides_no_genuine_one_and_is_told() -> None:
    world = World(a_device(**ADVANCED)).publish(genuine(2, 5)).publish(BAD)
    assert world.created().version == "4.3.2"
    world.says(version="4.3.2")
    assert (world.code(), world.decision().refused) == ("bad_signature", True)
    assert superfluous(world.known) == []


def test_a_refused_message_that_was_followed_by_another_is_not_told() -> None:
    world = World(a_device(**ADVANCED)).publish(BAD).publish(genuine(2, 5)).says(version="4.3.2")
    assert world.code() == "up_to_date"
    assert superfluous(world.known) == [1]


def test_a_device_of_another_line_is_followed_there() -> None:
    world = World(a_device()).publish(genuine(2)).publish(genuine(1), minor=4).job()
    world.says(version="4.4.0")
    assert world.plan().topics == {"/a/pump/u/4.4"}
    end, create = world.plan().job_changes
    assert isinstance(end, EndJob)
    assert isinstance(create, CreateJob)
    assert (end.code, create.version) == ("superseded", "4.4.1")


@pytest.mark.parametrize("version", [None, "nightly", "4.3"])
def test_a_version_that_is_none_leaves_the_configuration_believed(version: str | None) -> None:
    assert World(a_device()).publish(genuine(2)).says(version=version).created().from_version == "4.3.1"


def test_an_image_on_trial_that_nobody_remembers_gets_a_job_to_confirm_it() -> None:
    runs: dict[str, Any] = {"version": "4.3.2", "running_sha256": bytes.fromhex(digest("image 2 5"))}
    world = World(a_device(**ADVANCED)).publish(genuine(2, 5))
    assert world.says(**runs, image_state=ImageState.ON_TRIAL).created()
    assert world.says(**runs).code() == "up_to_date"
    world.says(**runs, image_state=ImageState.ON_TRIAL, mark=RollbackMark(6, bytes(32)))
    assert world.code() == "rollback"


def test_what_the_bootloader_gave_up_is_not_offered_again() -> None:
    tried: dict[str, Any] = {"tried_sha256": bytes.fromhex(digest("image 2 None")), "tried_count": 1}
    world = World(a_device()).publish(genuine(2)).says(image_state=ImageState.REVERTED, **tried)
    assert world.code() == "reverted"
    assert world.publish(genuine(3)).created().version == "4.3.3"


@pytest.mark.parametrize(
    ("code", "info", "again"),
    [
        ("no_answer", {}, True),  # it answers now
        ("wrong_app", {}, True),
        ("stalled", {}, False),
        ("stalled", {"boot_id": 2}, True),  # it has restarted
        ("keeps_restarting", {"boot_id": 2}, False),
        ("keeps_vanishing", {"boot_id": 2}, False),
        ("keeps_vanishing", {"device_id": "B"}, True),
        ("reverted", {"boot_id": 2}, False),
        ("version_mismatch", {"boot_id": 2}, False),
        ("already_tried", {"boot_id": 2}, False),
        ("reverted", {"device_id": "B"}, True),  # another board
    ],
)
def test_after_a_failure_the_device_has_to_give_a_reason(
    code: str, info: dict[str, Any], again: bool
) -> None:
    world = World(a_device()).publish(genuine(2))
    world.job(state=JobState.FAILED, code=code, reason="so it was", boot_id=1, device_id="A", updated_seq=10)
    assert (world.code(), world.decision().refused) == (code, True)
    world.says(**info, contact_seq=9)  # before the failure: no news
    assert world.code() == code
    world.says(**info, contact_seq=11)
    assert (world.code() == "update") is again


def test_a_failure_says_nothing_about_the_next_release() -> None:
    world = World(a_device()).publish(genuine(2)).job(state=JobState.FAILED, code="reverted")
    assert world.publish(genuine(3)).created().version == "4.3.3"


def test_what_a_person_cancelled_stays_cancelled() -> None:
    world = World(a_device()).publish(genuine(2)).job(state=JobState.CANCELLED, code="cancelled")
    assert world.code() == "cancelled"
    world = World(a_device()).publish(genuine(2)).job(state=JobState.CANCELLED, code="withdrawn")
    assert world.code() == "update"


def test_a_damaged_file_is_tried_again_when_it_was_published_again() -> None:
    world = World(a_device()).publish(genuine(2))
    world.job(state=JobState.FAILED, code="spool_damaged", updated_seq=10)
    assert world.code() == "spool_damaged"
    world.releases = [a_release(1, seq=11)]
    assert world.code() == "update"


def test_a_waiting_job_that_is_no_update_any_more_ends() -> None:
    world = World(a_device()).publish(genuine(2)).job().says(version="4.3.9")
    assert (world.ended().state, world.ended().code) == (JobState.CANCELLED, "not_newer")


def test_a_waiting_job_whose_image_was_activated_is_left_to_find_out() -> None:
    runs: dict[str, Any] = {"version": "4.3.2", "running_sha256": bytes.fromhex(digest("image 2 None"))}
    world = World(a_device()).publish(genuine(2)).job(activated_at="then").says(**runs)
    assert not world.plan().job_changes  # it succeeds, and leaves its mark
    world.jobs = [a_job()]
    assert world.ended().code == "up_to_date"


def test_a_job_whose_message_is_not_genuine_any_more_ends_even_in_mid_transfer() -> None:
    world = World(a_device(**ADVANCED)).publish(BAD).job(state=JobState.TRANSFERRING)
    assert world.ended().code == "bad_signature"


def test_superfluous_releases_are_those_that_newer_ones_stand_for() -> None:
    world = World(a_device()).publish(genuine(2)).publish(genuine(3)).publish(genuine(4), Channel.STABLE)
    assert superfluous(world.known) == [1]
    assert superfluous(world.job().known) == []
    world.verdicts.clear()  # not verified: it may turn out that only the first is genuine
    assert superfluous(World(a_device()).publish(genuine(2)).publish(None).known) == []


def pushed(world: World, verdict: Verdict, name: str = "pump-1") -> Release:
    """Add a release that came by hand."""
    release = a_release(len(world.releases) + 1, topic=push_topic(name))
    world.releases.append(release)
    world.judge(release, verdict)
    return release


def test_what_was_pushed_concerns_its_device_alone() -> None:
    world = World(a_device(), a_device("pump-2"))
    pushed(world, genuine(2), "pump-2")
    assert [decision.code for decision in world.plan().decisions] == ["no_release", "update"]
    assert world.created().device == "pump-2"
    assert world.plan().topics == {"/a/pump/u/4.3"}  # nothing that a broker could send


def test_the_highest_patch_counts_wherever_it_came_from() -> None:
    world = World(a_device()).publish(genuine(5))
    pushed(world, genuine(4))
    assert (world.created().version, world.created().topic) == ("4.3.5", "/a/pump/u/4.3")
    pushed(world, genuine(6))
    assert (world.created().version, world.created().topic) == ("4.3.6", push_topic("pump-1"))


@pytest.mark.parametrize(
    ("state", "is_kept"),
    [
        (JobState.QUEUED, True),
        (JobState.FAILED, True),
        (JobState.SUCCEEDED, False),
        (JobState.CANCELLED, False),
        (JobState.SUPERSEDED, False),
    ],
)
def test_a_push_stays_until_it_is_carried_out_or_called_off(state: JobState, is_kept: bool) -> None:
    world = World(a_device())
    release = pushed(world, genuine(2))
    world.job(message_sha256=release.sha256, release_id=release.id, state=state, created_seq=10)
    assert superfluous(world.known) == ([] if is_kept else [release.id])


def test_what_is_pushed_anew_is_not_over_because_it_was_once() -> None:
    world = World(a_device())
    release = pushed(world, genuine(2))
    world.job(message_sha256=release.sha256, state=JobState.SUCCEEDED, created_seq=10)
    world.releases = [replace(release, seq=11)]
    assert superfluous(world.known) == []


def test_a_failed_push_is_tried_again_by_pushing_it_again_but_not_what_reverted() -> None:
    world = World(a_device())
    release = pushed(world, genuine(2))
    world.job(message_sha256=release.sha256, state=JobState.FAILED, code="stalled", updated_seq=10)
    assert world.decision().refused
    world.releases = [replace(release, seq=11)]
    assert world.created().version == "4.3.2"
    world.jobs = [replace(world.jobs[0], code="reverted")]
    assert world.code() == "reverted"


def test_a_person_may_lift_what_a_failed_or_cancelled_job_forbids() -> None:
    for state, code in ((JobState.FAILED, "stalled"), (JobState.CANCELLED, "cancelled")):
        world = World(a_device()).publish(genuine(2)).job(state=state, code=code)
        assert (world.code(), world.plan().job_changes) == (code, ())
        world.jobs = [replace(world.jobs[0], retry_allowed=True)]
        assert world.created().version == "4.3.2"


def test_what_is_older_than_what_runs_is_no_alarm_even_if_its_timestamp_is_older_too() -> None:
    world = World(a_device(payload="advanced", keys="pump")).publish(genuine(2, 1000))
    world.says(version="4.3.4", mark=RollbackMark(2000, bytes(32)))
    assert (world.code(), world.decision().refused) == ("not_newer", False)


def test_what_was_refused_before_it_was_stored_shows_at_those_that_follow_its_topic() -> None:
    error = FirmwareError("the message came with QoS 0", code="qos0", hint="publish it again with QoS 1")
    topic = a_release(1).topic

    def decided(world: World, topic: str) -> tuple[str, bool]:
        known = replace(world.known, turned_away={topic: error})
        (decision,) = plan(world.settings, known).decisions
        return decision.code, decision.refused

    assert decided(World(a_device()), topic) == ("qos0", True)
    assert decided(World(a_device()).publish(genuine(1)), topic) == ("qos0", True), "it runs what came before"
    assert decided(World(a_device()).publish(genuine(2)), topic) == ("update", False), "that one is still due"
    assert decided(World(a_device()), "/a/tank/u/4.3") == ("no_release", False)


def test_what_is_not_newer_is_no_alarm_either_when_it_was_not_stored() -> None:
    """The installed image under a higher patch, more often than is kept: nobody needs to do anything."""
    error = FirmwareError("the topic has the same container", code="not_newer")
    world = World(a_device()).publish(genuine(1))
    known = replace(world.known, turned_away={a_release(1).topic: error})
    (decision,) = plan(world.settings, known).decisions
    assert (decision.code, decision.refused) == ("not_newer", False)


def retained(world: World, **changes: Any) -> World:
    world.releases = [replace(one, retained=True, **changes) for one in world.releases]
    return world


def suspended(world: World) -> World:
    return retained(world, suspended_at="2026-11-28T12:00:00Z")


def test_what_the_broker_has_no_longer_is_shown_and_not_installed() -> None:
    world = suspended(World(a_device()).publish(genuine(2)))
    decision = world.decision()
    assert not world.plan().job_changes
    assert (decision.code, decision.refused, decision.version) == ("not_at_broker", True, "4.3.2")
    assert not superfluous(world.known), "its file is kept"


def test_a_device_that_runs_what_is_suspended_is_up_to_date() -> None:
    assert suspended(World(a_device(version="4.3.2")).publish(genuine(2))).code() == "up_to_date"


def test_what_comes_back_goes_on() -> None:
    world = suspended(World(a_device()).publish(genuine(2)))
    assert retained(world, suspended_at="").created().version == "4.3.2"


def test_another_release_is_installed_in_place_of_a_suspended_one() -> None:
    world = suspended(World(a_device()).publish(genuine(2))).publish(genuine(3))
    assert world.created().version == "4.3.3"


@pytest.mark.parametrize("state", [JobState.OFFERED, JobState.QUEUED, JobState.TRANSFERRING, JobState.STAGED])
def test_a_suspended_release_takes_its_job_with_it(state: JobState) -> None:
    world = suspended(World(a_device()).publish(genuine(2)).job(state=state))
    assert world.ended() == EndJob(1, JobState.CANCELLED, "not_at_broker", "4.3.2 is no longer at the broker")


def test_a_suspended_job_that_comes_back_is_made_again() -> None:
    world = World(a_device()).publish(genuine(2)).job(state=JobState.CANCELLED, code="not_at_broker")
    assert retained(world).created().version == "4.3.2"


def test_no_update_begins_before_the_broker_was_asked() -> None:
    world = retained(World(a_device()).publish(genuine(2)))
    world.unconfirmed = frozenset({world.releases[0].topic})
    assert (world.code(), world.plan().job_changes) == ("verifying", ())
    world.unconfirmed = frozenset()
    assert world.created()


def test_what_was_never_retained_does_not_wait_for_the_broker() -> None:
    world = World(a_device()).publish(genuine(2))
    world.unconfirmed = frozenset({world.releases[0].topic})
    assert world.created()


@pytest.mark.parametrize(
    ("state", "image", "is_held"),
    [
        (JobState.QUEUED, "", True),
        (JobState.QUEUED, digest("image 2 None"), False),
        (JobState.ACTIVATING, digest("image 2 None"), False),
    ],
)
def test_only_a_job_that_was_not_begun_waits_for_the_broker(
    state: JobState, image: str, is_held: bool
) -> None:
    world = retained(World(a_device()).publish(genuine(2)).job(state=state, image_sha256=image))
    world.unconfirmed = frozenset({world.releases[0].topic})
    assert world.plan().held == ({1} if is_held else set())
