"""Devices whose keys cannot be used since the start, and those beside them."""

from lab.jobs import OTHER_KEYS, World, a_device, a_job, genuine

from gatewayd.jobs.eligibility import profile_of
from gatewayd.jobs.model import CreateJob
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.rules import Payload

ADVANCED = {"payload": Payload.ADVANCED, "allow_unsigned": True}


def a_world() -> World:
    """Two devices of one application, the first with keys that became unusable."""
    world = World(a_device("pump-1", keys="pump", **ADVANCED), a_device("pump-2", keys="other", **ADVANCED))
    world.key_sets["other"] = OTHER_KEYS
    world.publish(genuine(2, 1000)).says("pump-1").says("pump-2")
    world.unusable_keys["pump"] = "decrypt.key.bin cannot be read"
    del world.key_sets["pump"]
    return world


def test_a_device_without_its_keys_waits_and_the_others_are_served() -> None:
    plan = a_world().plan()
    assert [one.code for one in plan.decisions] == ["keys_unusable", "update"]
    assert plan.decisions[0].reason == "decrypt.key.bin cannot be read"
    assert [one.device for one in plan.job_changes if isinstance(one, CreateJob)] == ["pump-2"]
    assert plan.topics == {"/a/pump/u/4.3"}, "what is published meanwhile is kept for it"


def test_no_message_is_judged_as_if_there_were_no_keys() -> None:
    world = a_world()
    reading = profile_of(world.settings, world.devices[0])
    world.publish(None)
    assert {keys for _, _, keys in world.plan().to_verify} == {"other"}
    without = a_device("pump-1", **ADVANCED)
    assert reading.key != profile_of(world.settings, without).key


def test_its_job_is_neither_ended_nor_begun_again() -> None:
    world = a_world().job(state=JobState.QUEUED)
    assert not [one for one in world.plan().job_changes if getattr(one, "job_id", None) == 1]
    assert a_job().is_active


def test_bare_images_need_no_keys() -> None:
    world = World(a_device("pump-1", keys="pump")).publish(genuine(2)).says()
    world.unusable_keys["pump"] = "decrypt.key.bin cannot be read"
    assert world.decision().code == "update"
