"""What may get lost while a device changes from one image to another."""

import pytest
from lab.rcp.stories import IMAGE, MakeLab, assert_updated

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.tlv_frames import Offer
from gatewayd.protocol.session import (
    Staged,
)


@pytest.mark.parametrize("kind", [frames.Activated, frames.Finished, frames.Accept, frames.Finish, Offer])
def test_a_lost_answer_or_request_is_asked_for_again(make_lab: MakeLab, kind: type[frames.Frame]) -> None:
    lab = make_lab()
    lab.losing = lambda frame: isinstance(frame, kind) and lab.count(kind) == 1
    assert_updated(lab, lab.update(IMAGE))
    assert lab.count(kind) == 2 or kind is frames.Activated


def test_an_activate_that_was_lost_with_a_power_cut_is_not_taken_for_a_trial(make_lab: MakeLab) -> None:
    lab = make_lab()

    def power_fails(frame: frames.Frame) -> bool:
        first = isinstance(frame, frames.Activate) and lab.count(frames.Activate) == 1
        if first:
            lab.device.power_cut(lab.now)
        return first

    lab.losing = power_fails
    assert_updated(lab, lab.update(IMAGE, attempts=3))
    assert lab.starts == [0, len(IMAGE.content)]  # offered again, nothing sent again
    assert not any(isinstance(frame, Offer) and frame.second_try for frame in lab.seen)


def test_a_power_cut_between_the_record_and_the_boot_flag_gets_one_second_try(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    lab.transfer(IMAGE)
    whole = make_lab()
    whole.identify()
    whole.transfer(IMAGE)
    before = whole.device.flash.operations
    whole.activate()
    last = whole.device.flash.operations
    assert last > before
    lab.restart_gateway()
    lab.device.flash.cut_at = last  # the boot flag: the last thing done
    assert_updated(lab, lab.update(IMAGE, attempts=2))
    assert [frame.second_try for frame in lab.seen if isinstance(frame, Offer)][-1]


def test_staged_does_not_survive_a_restart_and_is_asked_for_again(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    assert isinstance(lab.transfer(IMAGE), Staged)
    lab.device.power_cut(lab.now)
    lab.pass_time(1.0)
    sent = lab.payload_sent
    assert lab.activate().acknowledged is False  # type: ignore[union-attr]  # Activated, or the test fails
    assert_updated(lab, lab.update(IMAGE))
    assert lab.payload_sent == sent
