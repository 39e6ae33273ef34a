"""Rule 12, the line's speed, and the clock behind it, asked of the receiver in C."""

from lab.c_receiver_bench import CBench, c_bench
from lab.receiver_bench import error

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode


def set_baud(on: CBench, baud: int = 921600) -> list[frames.Frame]:
    return on.ask(frames.SetBaud(0, baud))


def test_the_speed_changes_when_baud_ok_has_left() -> None:
    on = c_bench()
    on.wait(1)  # the line is quiet
    assert isinstance(set_baud(on)[0], frames.BaudOk)
    assert on.device.baud == 115200
    on.wait(0.0011)  # of 1.4 ms
    assert on.device.baud == 115200
    on.wait(0.01)
    assert on.device.baud == 921600


def test_without_a_first_frame_the_speed_falls_back_after_a_second_later_after_three() -> None:
    on = c_bench()
    set_baud(on)
    on.wait(0.9)
    on.hello()
    on.wait(2.9)
    assert on.device.baud == 921600
    on.wait(0.2)
    assert on.device.baud == 115200
    set_baud(on)
    on.wait(1.1)
    assert on.device.baud == 115200


def test_noise_does_not_hold_the_speed() -> None:
    on = c_bench()
    set_baud(on)
    for _ in range(6):
        on.wait(0.2)
        on.say(b"\0noise\0")
    assert on.device.baud == 115200


def test_time_under_busy_does_not_count_against_the_speed() -> None:
    on = c_bench(erase_s=2.0)
    set_baud(on)
    on.wait(0.5)
    on.hello()
    on.offer()
    on.wait(5.9)
    assert on.device.baud == 921600


def test_a_restart_leads_to_the_base_speed() -> None:
    on = c_bench()
    set_baud(on)
    on.wait(0.5)
    on.device.power_cut(on.now)
    on.hello()
    assert on.device.baud == 115200


def test_speeds_it_cannot_make_within_one_and_a_half_percent() -> None:
    for baud in (0, 2**32 - 1, 3_900_000, 3_750_000):
        assert set_baud(c_bench(), baud) == error(0, RcpCode.BAUD)
    assert set_baud(c_bench(), 3_746_000) == [frames.BaudOk(0, 3_746_000, 3_692_307)]
    assert set_baud(c_bench(can_set_baud=False)) == error(0, RcpCode.BAUD)


def test_its_clock_may_wrap() -> None:
    on = c_bench()
    on.wait(29.5)  # c_receiver lets it wrap after 30 s
    set_baud(on)
    on.wait(0.9)
    assert on.device.baud == 921600
    on.wait(0.2)
    assert on.device.baud == 115200
