"""The receivers in C and in Python say the same, whatever happens to them. GATEWAYD_TWINS=N tries more."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab.rcp.devices import PROFILE
from lab.rcp.twins import VERBS, Step, Twins

from gatewayd.simulator.profile import DeviceProfile

CONVERSATIONS = int(os.environ.get("GATEWAYD_TWINS", "80"))


def chapter(*steps: tuple[str, int]) -> list[Step]:
    return [Step(verb, number) for verb, number in steps]


# A whole update, up to what was activated and is not confirmed.
UPDATE = chapter(
    *(("hello", 0), ("offer", 16), ("send", 11), ("send", 11), ("finish", 0)),
    *(("hello", 0), ("activate", 1), ("hello", 0)),
)
# What follows an OFFER, up to an image that nobody confirms.
TRIED = chapter(("send", 11), ("send", 11), ("finish", 0), ("hello", 0), ("activate", 0), ("wait", 3))
# What chance alone does not come to. `offer` 56 is of 3000 bytes, as 96 to 103, which stay in the session.
CHAPTERS = (
    UPDATE,
    [Step("hello", 0), Step("offer", 16), *TRIED, Step("offer", 18), *TRIED, Step("offer", 18)],
    [*UPDATE, Step("confirm", 0), Step("cut_power", 0)],
    chapter(("offer", 32), ("send", 2), ("send_broken", 3), ("send_broken", 4), ("send_elsewhere", 1)),
    chapter(("offer", 56), ("send_elsewhere", 1), ("send_elsewhere", 0), ("send_broken", 1), ("send", 0)),
    chapter(
        ("offer", 56), ("send", 1), ("offer", 96), ("send", 1), ("offer", 97), ("send", 0), ("offer", 99)
    ),
    chapter(
        ("hello", 0), ("offer", 56), ("send", 1), ("hello", 1), ("offer", 56), ("wait", 3), ("offer", 56)
    ),
    chapter(("offer", 56), ("send", 11), ("cut_power", 0), ("offer", 56), ("send", 11), ("cut_power", 1)),
    chapter(("offer", 56), ("send", 5), ("send_elsewhere", 3), ("send", 11), ("send", 11), ("finish", 0)),
    chapter(("abort", 1), ("set_baud", 1), ("wait", 1), ("hello", 0), ("wait", 2), ("hello", 0), ("wait", 4)),
)
anything = st.builds(Step, st.sampled_from(sorted(VERBS)), st.integers(0, 2**16)).map(lambda step: [step])
stories = st.lists(st.one_of(anything, st.sampled_from(CHAPTERS)), min_size=4, max_size=10)
geometries = st.builds(
    DeviceProfile,
    app_id=st.just("pump"),
    version=st.just("1.0.0"),
    slot_size=st.just(16384),
    erase_block=st.sampled_from([512, 4096]),
    write_unit=st.sampled_from([1, 8, 256]),
    max_frame=st.sampled_from([266, 1034]),
    can_revert=st.booleans(),
    can_set_baud=st.booleans(),
)


@pytest.mark.slow
@given(profile=geometries, story=stories)
@settings(max_examples=CONVERSATIONS, suppress_health_check=[HealthCheck.too_slow])
def test_both_receivers_say_the_same(profile: DeviceProfile, story: list[list[Step]]) -> None:
    twins = Twins(profile)
    for step in (step for steps in story for step in steps):
        twins.live(step)


@pytest.mark.parametrize("steps", CHAPTERS)
def test_each_chapter_by_itself_and_after_the_others(steps: list[Step]) -> None:
    twins = Twins(PROFILE)
    for step in [*steps, *(step for steps in CHAPTERS for step in steps)]:
        twins.live(step)


def test_an_update_goes_all_the_way() -> None:
    """Else the twins would agree on nothing but refusals."""
    twins = Twins(PROFILE)
    for step in [*UPDATE, Step("confirm", 0), Step("cut_power", 1), Step("hello", 0)]:
        twins.live(step)
    assert twins.reached >= {"Info", "Accept", "Ack", "Finished", "Activated", "Confirmed"}


def test_a_difference_is_noticed() -> None:
    twins = Twins(PROFILE)
    twins.live(Step("hello", 0))
    python, c = twins.devices
    c.power_cut(twins.now)
    twins.now += 1
    with pytest.raises(AssertionError, match="in Python"):
        twins.live(Step("hello", 0))
    assert python.running_image == c.running_image
