"""Transfers at a raised speed, and every way back from it (docs/protocol.md, section 9)."""

from functools import partial

from lab.rcp.joined import Lab, rcp_gateway
from lab.rcp.stories import IMAGE, MakeLab, assert_updated

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.session import (
    Staged,
)


def fast(make_lab: MakeLab, **changes: object) -> Lab:
    make_session = partial(rcp_gateway, transfer_baud=921600)
    return make_lab(lab={"make_session": make_session}, **changes)


def test_a_transfer_at_a_raised_speed_ends_at_the_base_speed(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    slow = make_lab()
    assert_updated(lab, lab.update(IMAGE))
    slow.update(IMAGE)
    assert lab.speeds == [921600, 115200]
    assert (lab.baud, lab.device.baud) == (115200, 115200)
    assert lab.now < slow.now - 1.0


def test_a_device_that_cannot_change_the_speed_is_not_asked(make_lab: MakeLab) -> None:
    lab = fast(make_lab, can_set_baud=False)
    assert_updated(lab, lab.update(IMAGE))
    assert lab.count(frames.SetBaud) == 0


def test_a_power_cut_at_the_raised_speed(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data, 8)
    assert lab.baud == 921600
    lab.device.power_cut(lab.now)
    assert isinstance(lab.run_until_outcome(Staged), Staged)
    assert lab.now < 15


def test_a_gateway_killed_at_the_raised_speed(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data, 8)
    lab.restart_gateway()  # at the base speed, and the device is not: for 3 s
    assert_updated(lab, lab.update(IMAGE))


def test_a_cable_too_bad_for_the_raised_speed_is_used_at_the_base_speed(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    lab.losing = lambda _frame: lab.baud == 921600
    assert_updated(lab, lab.update(IMAGE, attempts=2))
    assert lab.count(frames.SetBaud) <= 4


def test_staged_at_the_raised_speed_is_kept_alive(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    lab.identify()
    assert isinstance(lab.transfer(IMAGE), Staged)
    end = lab.now + 20.0
    lab.at(20.0, lambda: None)
    lab.run_until(lambda: lab.now >= end)
    assert lab.device.baud == 921600
    assert lab.activate().acknowledged is True  # type: ignore[union-attr]  # Activated, or the test fails


def test_a_raised_speed_at_which_only_the_long_frames_fail_is_given_up_too(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    lab.losing = lambda frame: isinstance(frame, frames.Data) and lab.baud == 921600
    lab.identify()
    assert isinstance(lab.transfer(IMAGE), Staged)
    assert lab.speeds == [921600, 115200] * 2
