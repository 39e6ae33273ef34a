"""A gateway and both receivers over a radio: resuming, ACKs, what is said how, and what becomes image.

Virtual time; the radio carries a few packets in each connection interval, and order is kept.
"""

import dataclasses
import random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lab.rcp.devices import DEVICES, OLD, PROFILE, DeviceFactory
from lab.rcp.joined import Lab, make_image, packet_gateway
from lab.rcp.radio import Airtime
from lab.rcp.script import INFO
from lab.rcp.stories import IMAGE, MakeLab, assert_updated, failed_code

from gatewayd.codes import Again, meaning
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import seal
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.rcp.packets import Assembler, ShortData
from gatewayd.protocol.rcp.tlv_frames import Hello, Info
from gatewayd.protocol.session import (
    Console,
    Failed,
    Identified,
    Image,
    Progress,
    Staged,
    TransferStarted,
)

PACKETS = [20, 182, 244, 512]
FRAMES_IN_FLIGHT = 24
pytestmark = pytest.mark.slow  # 11 s of a processor; test_rcp_packets has the pieces

FRAMES_UNACKNOWLEDGED = 6
SHORT_INFO = dataclasses.replace(INFO, can_short_data=True, can_set_baud=False)


@pytest.fixture(params=PACKETS, ids=str)
def packet(request: pytest.FixtureRequest) -> int:
    size: int = request.param
    return size


# After a disconnect


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_disconnect_at_every_tenth_sends_at_most_a_window_again(
    make_lab: MakeLab, packet: int, tenth: int
) -> None:
    lab = make_lab()
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until(lambda: lab.payload_sent * 10 >= len(IMAGE.content) * tenth)
    before = lab.payload_sent
    lab.restart_gateway()
    assert_updated(lab, lab.update(IMAGE))
    most = min(PROFILE.window, FRAMES_IN_FLIGHT * (packet - 3)) + PROFILE.write_unit
    assert lab.payload_sent <= len(IMAGE.content) + most
    assert lab.starts[-1] >= before - most


@pytest.mark.parametrize(("before", "after"), [(20, 244), (244, 20), (182, 512)])
def test_after_a_reconnect_packets_are_of_another_size(
    make_device: DeviceFactory, before: int, after: int
) -> None:
    lab = Lab(make_device(PROFILE, before), packet_gateway, packet=before)
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_durable(8192)
    lab.restart_gateway(packet=after)
    assert_updated(lab, lab.update(IMAGE))
    assert lab.starts[-1] >= 8192
    chunks = {len(frame.payload) for frame in lab.seen if isinstance(frame, frames.Data)}
    assert {before - 3, after - 3} <= chunks


def test_a_size_that_is_told_late_is_used_within_the_transfer(make_device: DeviceFactory) -> None:
    lab = Lab(make_device(PROFILE, 244), packet_gateway, packet=244)
    lab.session.set_max_datagram(20)
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_durable(4096)
    lab.session.set_max_datagram(244)
    assert isinstance(lab.run_until_outcome(Staged), Staged)
    data = [frame for frame in lab.seen if isinstance(frame, frames.Data)]
    assert {len(frame.payload) for frame in data} >= {17, 241}
    assert len(data) < len(IMAGE.content) / 17 / 2


def test_a_radio_that_falls_silent_is_noticed_by_its_acks_alone(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_durable(4096)
    fell_silent = lab.now
    lab.losing = lambda _frame: True
    assert failed_code(lab.run_until_outcome(Staged)) == "no_answer"
    assert lab.now - fell_silent < 20
    assert lab.session.traffic.probes <= 17


# What goes over it


def test_image_bytes_fill_the_packets(make_lab: MakeLab, packet: int) -> None:
    lab = make_lab()
    assert_updated(lab, lab.update(IMAGE))
    data = [frame for frame in lab.seen if isinstance(frame, frames.Data)]
    assert len(data) == -(-len(IMAGE.content) // (packet - 3))
    assert lab.session.traffic.image_bytes_repeated == 0
    assert lab.session.traffic.probes == 0


def test_a_device_without_short_data_gets_whole_data(make_lab: MakeLab, packet: int) -> None:
    lab = make_lab(can_short_data=False)
    assert_updated(lab, lab.update(IMAGE))
    chunks = [len(frame.payload) for frame in lab.seen if isinstance(frame, frames.Data)]
    assert max(chunks) == packet - 10
    assert sum(chunks) == len(IMAGE.content)


def test_acks_are_a_quarter_of_the_window_apart(make_lab: MakeLab, packet: int) -> None:
    lab = make_lab()
    assert_updated(lab, lab.update(IMAGE))
    quarter = -(-PROFILE.window // 4 // (packet - 3)) if packet > 182 else FRAMES_UNACKNOWLEDGED
    least = lab.count(frames.Data) / max(quarter, 1)
    assert least <= lab.count(frames.Ack) <= 1.2 * least + 3


def test_a_small_window_is_acknowledged_in_time(make_lab: MakeLab) -> None:
    """Without an ACK as soon as no chunk more may be sent, both sides would wait for a time-out."""
    for window in (20, 60, 100, 300):
        lab = make_lab(window=window)
        assert_updated(lab, lab.update(IMAGE))
        assert lab.session.traffic.probes <= 1, window


@pytest.mark.parametrize("packets", [1, 2, 4])
def test_a_small_ring_is_acknowledged_in_time(make_lab: MakeLab, packet: int, packets: int) -> None:
    lab = make_lab(rx_ring=max(packets * (packet + 2), 138))
    assert_updated(lab, lab.update(IMAGE))
    assert lab.session.traffic.probes == 0


def test_an_image_larger_than_half_an_offset_says(make_device: DeviceFactory) -> None:
    image = make_image(150_000)
    profile = dataclasses.replace(PROFILE, slot_size=1 << 18, window=1 << 16, rx_ring=1 << 17)
    lab = Lab(make_device(profile, 244), packet_gateway, packet=244, airtime=Airtime(0.05, 4, lose=0.01))
    assert isinstance(lab.update(image), Identified)
    assert lab.device.running_image == image.content
    assert lab.count(frames.Nak) > 0


# Whatever happens


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
@pytest.mark.parametrize("device", DEVICES)
@given(
    size=st.integers(1, 6000),
    packet=st.sampled_from(PACKETS),
    airtime=st.builds(
        Airtime,
        st.sampled_from([0.0075, 0.03, 0.1]),
        st.integers(1, 6),
        st.sampled_from([0.0, 0.001, 0.02]),  # a radio loses what its receiver has no room for
    ),
    changes=st.fixed_dictionaries(
        {
            "window": st.sampled_from([64, 300, 4096]),
            "write_unit": st.sampled_from([1, 8, 128]),
            "erase_s": st.sampled_from([0.0, 0.05]),
            "can_short_data": st.booleans(),
        }
    ),
    cuts=st.lists(st.floats(0, 5), max_size=2),
    kills=st.lists(st.floats(0, 5), max_size=2),
    seed=st.integers(0, 1000),
)
def test_the_right_image_or_a_clean_failure_and_in_the_end_the_right_image(
    device: str,
    size: int,
    packet: int,
    airtime: Airtime,
    changes: dict[str, int],
    cuts: list[float],
    kills: list[float],
    seed: int,
) -> None:
    image, profile = make_image(size, seed), dataclasses.replace(PROFILE, **changes)  # type: ignore[arg-type]  # fields by name
    made = DEVICES[device](profile, packet)
    lab = Lab(made, packet_gateway, packet=packet, airtime=airtime, seed=seed)
    for at in cuts:
        lab.at(at, lambda: lab.device.power_cut(lab.now))
    for at in kills:
        lab.at(at, lab.kill_gateway)
    lab.update(image, attempts=2)
    assert lab.device.running_image in (OLD, image.content)
    lab.restart_gateway()
    lab.to_device.set_airtime(Airtime())  # type: ignore[union-attr]  # a Radio
    lab.to_gateway.set_airtime(Airtime())  # type: ignore[union-attr]  # as above
    outcome = lab.update(image, attempts=6)
    if isinstance(outcome, Failed) and meaning(outcome.error.code).again is Again.NEVER:
        assert lab.device.running_image == OLD
    else:
        assert isinstance(outcome, Identified), outcome
        assert lab.device.running_image == image.content


# The session alone


def session_with(packet: int) -> RcpGateway:
    session = RcpGateway("barn-pi", datagram=True, random=random.Random(1))
    session.set_max_datagram(packet)
    return session


def sent(session: RcpGateway) -> list[tuple[bytes, bool]]:
    """Take what is sent now: packets, and whether each wants a response."""
    found = []
    while packet := session.data_to_send(0.0):
        found.append((packet, session.needs_response))
    return found


def identified(packet: int) -> RcpGateway:
    session = session_with(packet)
    session.identify(0.0, 5.0)
    assembler = Assembler(138)
    hello = frames.decode([found for one, _ in sent(session) if (found := assembler.feed(one))][0])  # type: ignore[arg-type]  # noqa: RUF015
    assert isinstance(hello, Hello)
    session.receive_data(seal(Info(hello.nonce, SHORT_INFO).to_bytes()), 0.0)
    assert isinstance(session.next_event(), Identified)
    return session


@pytest.mark.parametrize("packet", [20, 244])
def test_only_the_last_packet_of_hello_and_offer_wants_a_response(packet: int) -> None:
    session = session_with(packet)
    session.identify(0.0, 5.0)
    hellos = [wants for _, wants in sent(session)]
    assert hellos == [False] * (len(hellos) - 1) + [True]
    assert (len(hellos) > 1) == (packet == 20)
    session = identified(packet)
    session.transfer(make_image(500), 0.0)
    assembler, offer = Assembler(138), b""
    for one, wants in sent(session):
        found = assembler.feed(one)
        assert wants == isinstance(found, bytes)
        offer = found if isinstance(found, bytes) else offer
    number = offer[1]
    session.receive_data(seal(frames.Accept(number, 0, 0, 500).to_bytes()), 0.0)
    data = sent(session)
    assert data
    assert not any(wants for _, wants in data)


def test_on_a_stream_nothing_wants_a_response() -> None:
    session = RcpGateway("barn-pi", random=random.Random(1))
    session.identify(0.0, 5.0)
    assert [wants for _, wants in sent(session)] == [False]


def test_session_numbers_fit_into_seven_bits() -> None:
    numbers: set[int] = set()
    for seed in range(300):
        session = identified(244)
        session._reactions._random = random.Random(seed)  # noqa: SLF001 - each time another one
        session.transfer(make_image(500), 0.0)
        ((offer, _wants),) = sent(session)
        numbers.add(offer[1])
    assert max(numbers) <= 127
    assert min(numbers) >= 1
    assert len(numbers) > 100


def test_no_more_than_24_frames_are_under_way() -> None:
    session = identified(20)
    session.transfer(make_image(5000), 0.0)
    assembler = Assembler(138)
    offer = next(found for one, _ in sent(session) if isinstance(found := assembler.feed(one), bytes))
    session.receive_data(seal(frames.Accept(offer[1], 0, 0, 4096).to_bytes()), 0.0)
    data = [assembler.feed(one) for one, _ in sent(session)]
    assert 3 * FRAMES_UNACKNOWLEDGED <= len(data) <= FRAMES_IN_FLIGHT
    assert all(isinstance(one, ShortData) and len(one.payload) == 17 for one in data)


def test_text_in_a_packet_is_no_console_and_short_data_no_answer() -> None:
    session = identified(244)
    for packet in (b"I (33) adc: 3.30 V\r\n", ShortData(1, 0, b"x").to_bytes(), b""):
        session.receive_data(packet, 0.0)
    event = session.next_event()
    assert not isinstance(event, Console)
    assert event is None
    assert session.traffic.broken_frames == 3


def test_silence_says_nothing_of_a_baud() -> None:
    session = session_with(244)
    session.identify(0.0, 5.0)
    sent(session)
    session.handle_timeout(6.0)
    event = session.next_event()
    assert isinstance(event, Failed)
    assert "baud" not in event.error.message
    assert "in range" in event.error.hint


# What becomes image


INTERVALS_S = (0.015, 0.05)
GOALS = {20: 0.80, 182: 0.92, 244: 0.95}  # MTU 23, 185, 247


def goodput(packet: int, airtime: Airtime, device: DeviceFactory, image: Image) -> float:
    """Transfer; return the image's bytes against what the packets from ACCEPT to the last ACK carry."""
    profile = dataclasses.replace(PROFILE, slot_size=1 << 18, window=8192, rx_ring=16384)
    lab = Lab(device(profile, packet), packet_gateway, packet=packet, airtime=airtime)
    lab.identify()
    assert isinstance(lab.transfer(image), Staged)
    begin = min(at for at, event in lab.events if isinstance(event, TransferStarted))
    end = max(at for at, event in lab.events if isinstance(event, Progress))
    events = round((end - begin) / airtime.interval_s)
    return len(image.content) / (events * airtime.packets * packet)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("packet", "least"), GOALS.items())
def test_goodput(device: str, packet: int, least: float) -> None:
    image = make_image(packet * 800)
    found = {
        (interval, count): goodput(packet, Airtime(interval, count), DEVICES[device], image)
        for interval in INTERVALS_S
        for count in (4, 6)
    }
    print(f"{device}, MTU {packet + 3}: {min(found.values()):.1%} to {max(found.values()):.1%}")  # noqa: T201 - the figures are the test's result
    assert min(found.values()) >= least, found
