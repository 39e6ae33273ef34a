"""Rules of packets (protocol.md, section 11), asked of both receivers packet by packet."""

import dataclasses
from collections.abc import Callable

import pytest
from lab.c_receiver_bench import CBench, c_bench
from lab.rcp.devices import Device
from lab.receiver_bench import IMAGE, PROFILE, Bench, python_bench, without_busy

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.packets import ShortData, split
from gatewayd.protocol.rcp.tlv_frames import Hello, Info, Offer

MakeBench = Callable[..., Bench[Device]]
SESSION = 5


def _python(packet: int, **changes: object) -> Bench[Device]:
    return python_bench(max_datagram=packet, **changes)  # type: ignore[arg-type]  # fields by name


def _c(packet: int, **changes: object) -> CBench:
    # Everything is erased before ACCEPT: else an ACK may come when a block more is.
    return c_bench(**{"max_datagram": packet, "erase_ahead": PROFILE.slot_size, **changes})  # type: ignore[arg-type]  # by name


@pytest.fixture(params=[_python, _c], ids=["python", "c"])
def bench(request: pytest.FixtureRequest) -> MakeBench:
    make: MakeBench = request.param
    return make


def offer(image: bytes = IMAGE) -> Offer:
    return Offer(SESSION, CBench.sha256(image), len(image), "1.0.1")


def accepted(on: Bench[Device]) -> Bench[Device]:
    assert isinstance(without_busy(on.ask(offer()) + on.wait(0.1))[-1], frames.Accept)
    return on


def short(on: Bench[Device], offset: int, size: int = 17) -> list[frames.Frame]:
    return on.say(ShortData(SESSION, offset & 0xFFFF, IMAGE[offset : offset + size]).to_bytes())


def received(answers: list[frames.Frame]) -> list[int]:
    assert all(isinstance(answer, frames.Ack) for answer in answers), answers
    return [answer.received for answer in answers if isinstance(answer, frames.Ack)]


def test_six_data_are_acknowledged_together(bench: MakeBench) -> None:
    on = accepted(bench(20))
    found = [received(short(on, 17 * number)) for number in range(18)]
    assert found == [[17 * (number + 1)] if number % 6 == 5 else [] for number in range(18)]


@pytest.mark.parametrize(("window", "apart"), [(8192, 6), (4096, 5), (1024, 2), (600, 1)])
def test_a_quarter_of_the_window_is_acknowledged(bench: MakeBench, window: int, apart: int) -> None:
    on = accepted(bench(244, window=window))
    found = [received(short(on, 241 * number, 241)) for number in range(2 * apart)]
    assert [bool(acks) for acks in found] == 2 * ([False] * (apart - 1) + [True])


def test_a_window_of_less_than_six_packets_is_acknowledged_in_time(bench: MakeBench) -> None:
    on = accepted(bench(20, window=100))
    assert [received(short(on, at)) for at in (0, 17)] == [[], [34]]


def test_the_image_s_end_is_acknowledged(bench: MakeBench) -> None:
    on = accepted(bench(244))
    at = 0
    while at < len(IMAGE):
        answers = short(on, at, 241)
        at = min(at + 241, len(IMAGE))
    assert received(answers) == [len(IMAGE)]


def test_a_new_connection_forgets_a_frame_begun_and_keeps_the_image(bench: MakeBench) -> None:
    on = accepted(bench(20))
    for number in range(12):
        short(on, 17 * number)
    first, *rest = split(Hello(7, "bench").to_bytes(), 20)
    assert on.say(first) == []
    on.device.connect(20)
    assert [answer for packet in rest for answer in on.say(packet) if isinstance(answer, Info)] == []
    on.hello()
    accept = without_busy(on.ask(dataclasses.replace(offer(), session=6)) + on.wait(0.1))[-1]
    assert isinstance(accept, frames.Accept)
    assert accept.offset == 12 * 17 // 8 * 8  # without the unit that was not full


def test_after_another_connection_packets_have_its_size(bench: MakeBench) -> None:
    on = bench(20)
    on.device.connect(244)
    on.device.receive_data(split(Hello(7, "bench").to_bytes(), 244)[0], on.now)
    info = on.device.data_to_send(on.now)
    assert 20 < len(info) <= 244
    assert on.device.data_to_send(on.now) == b""


def test_short_data_is_a_gap_for_a_device_that_does_not_announce_it(bench: MakeBench) -> None:
    on = accepted(bench(20, can_short_data=False))
    (nak,) = short(on, 0)
    assert isinstance(nak, frames.Nak)
    assert nak.received == 0


def test_a_frame_longer_than_the_device_takes_is_a_gap(bench: MakeBench) -> None:
    on = accepted(bench(512, max_frame=138, window=1024))
    assert received(short(on, 0, 128)) == []
    (nak,) = short(on, 128, 129)
    assert isinstance(nak, frames.Nak)
    assert nak.received == 128


def test_an_info_too_long_for_sixteen_packets_is_not_said(bench: MakeBench) -> None:
    ids = {"hardware_id": "h" * 64, "device_id": "d" * 32}
    on = bench(244, **ids, app_id="a" * 64, version="1.0." + "1" * 58, slot_address=1)
    on.device.connect(20)
    for packet in split(Hello(7, "bench").to_bytes(), 20):
        on.device.receive_data(packet, on.now)
    assert on.device.data_to_send(on.now) == b""
    on.device.connect(244)
    on.hello()


def test_there_is_no_speed_to_set(bench: MakeBench) -> None:
    on = bench(244, can_set_baud=True)
    assert not on.hello().can_set_baud
    assert on.ask(frames.SetBaud(0, 921600)) == [frames.Error(0, RcpCode.BAUD)]


def test_a_ring_that_is_full_loses_packets_and_a_nak_says_so() -> None:
    on = _c(20, rx_ring=200)
    accepted(on)
    for number in range(20):  # while the main loop is elsewhere; 9 packets of 20 and their lengths go in
        on.device.queue(ShortData(SESSION, 17 * number, IMAGE[17 * number : 17 * number + 17]).to_bytes())
    assert received(on.wait(0.1)) == [3 * 17, 6 * 17, 9 * 17]  # a quarter of the ring each
    (nak,) = short(on, 20 * 17)
    assert isinstance(nak, frames.Nak)
    assert nak.received == 9 * 17
