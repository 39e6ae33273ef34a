"""The rules that a model showed to matter, each on the gateway's side: the flow of DATA, rules 1 to 5.

Rules 6 to 12 are in test_rcp_rules_session.py, 13 in test_rcp_rules_hostile.py.
Rule 7, and the device's half of the others, are tested with the receivers.
"""

import dataclasses
import math
import zlib

import pytest
from lab.rcp.devices import python_device
from lab.rcp.joined import Lab, make_image
from lab.rcp.script import IMAGE, INFO, MANY, Script, is_whole, payloads, session_of

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import DATA_OVERHEAD, encode_stream, wire_size
from gatewayd.protocol.rcp.tlv_frames import Hello, Offer
from gatewayd.protocol.session import (
    Identified,
    Staged,
)

SIZE = len(IMAGE.content)
WINDOW = [(0, 1024), (1024, 1024), (2048, 1024), (3072, 1024)]
OVERHEAD = wire_size(128 + DATA_OVERHEAD) - 128


# 1. Only the gateway probes


@pytest.mark.parametrize(("waiting", "frames_sent"), [(MANY, 4), (None, 2)])
def test_rule_01_after_a_silence_one_probe_and_not_a_window(waiting: int | None, frames_sent: int) -> None:
    script = Script(waiting=waiting)
    sent = script.sending()
    session = session_of(sent)
    assert payloads(sent) == WINDOW[:frames_sent]
    assert payloads(script.silence()) == [(frames_sent * 1024, 0)]
    assert script.sent() == []
    again = payloads(script.say(frames.Ack(session, 0, 0, 4096)))
    assert is_whole(again, 0, 4096 if waiting else 2 * again[0][1])


def test_rule_01_a_timeout_gives_the_line_time_for_what_is_outstanding() -> None:
    script = Script()
    script.sending()
    begin = script.now
    script.silence()
    assert script.now - begin >= 4096 / 11520 + 0.05


@pytest.mark.parametrize("size", [20_000, 4096, 1])
def test_rule_01_a_lost_last_ack_costs_one_probe(size: int) -> None:
    image = make_image(size)
    lab = Lab(python_device())
    lost: list[frames.Frame] = []

    def is_last(frame: frames.Frame) -> bool:
        if lost or not (isinstance(frame, frames.Ack) and frame.received == size):
            return False
        lost.append(frame)
        return True

    lab.losing = is_last
    lab.identify()
    assert isinstance(lab.transfer(image), Staged)
    assert lab.session.traffic.probes == 1
    assert lab.session.traffic.image_bytes_repeated == 0


def test_rule_01_three_stalls_without_a_durable_byte_give_up() -> None:
    script = Script()
    script.sending()
    offers = 1
    while script.outcome() is None or isinstance(script.outcome(), Identified):
        for frame in script.silence():
            if isinstance(frame, Hello):
                for offer in script.greet(frame):
                    assert isinstance(offer, Offer)
                    offers += 1
                    script.say(frames.Accept(offer.session, 0, 0, 4096))
    assert (script.failed_code(), offers) == ("stalled", 3)
    assert 30 < script.session.traffic.probes < 60  # 16 rounds each, more or less


def test_rule_01_stalls_are_counted_anew_after_a_durable_byte() -> None:
    script = Script()
    session = session_of(script.sending())
    for durable in range(4096, SIZE, 4096):
        credit = min(durable + 4096, SIZE)
        script.say(frames.Ack(session, durable, durable, credit))
        offer = script.greet()[0]
        assert isinstance(offer, Offer)
        crc = zlib.crc32(IMAGE.content[:durable])
        session = session_of(script.say(frames.Accept(offer.session, durable, crc, credit)))
    assert isinstance(script.outcome(), Identified)


# 2. Go back N, NAK, chunk size


def test_rule_02_a_nak_goes_back_to_where_the_device_is() -> None:
    script = Script()
    session = session_of(script.sending())
    again = script.say(frames.Nak(session, 1024, 0, 5120))
    assert is_whole(payloads(again), 1024, 5120)


def test_rule_02_an_ack_that_does_not_advance_does_not_go_back() -> None:
    script = Script()
    session = session_of(script.sending())
    assert script.say(*[frames.Ack(session, 0, 0, 4096)] * 3) == []


def test_rule_02_a_nak_of_before_is_ignored() -> None:
    script = Script()
    session = session_of(script.sending())
    script.say(frames.Ack(session, 2048, 0, 6144))
    assert script.say(frames.Nak(session, 1024, 0, 5120)) == []


# A chunk costs its framing and what is lost with it: sqrt(overhead / (2 x losses a byte)) costs least. Before
# anything is known of the line, it is taken to have carried 32 KiB without a loss.


def test_rule_02_losses_make_chunks_smaller_to_a_floor_of_whole_write_units() -> None:
    script = Script(info=dataclasses.replace(INFO, write_unit=32, max_frame=1000))
    session = session_of(script.sending())
    chunks: list[int] = []
    for _ in range(12):
        again = script.say(frames.Nak(session, 0, 0, 4096))
        chunks.append(payloads(again)[0][1])
    assert chunks == [448, 320, 256, 224, 192, 192, 160, 160, 128, 128, 128, 128]


@pytest.mark.parametrize("bytes_between_losses", [4096, 16_384, 65_536])
def test_rule_02_a_chunk_is_chosen_from_the_losses_measured(bytes_between_losses: int) -> None:
    image = make_image(800_000)
    script = Script()
    first = script.sending(image)
    sent = payloads(first)
    session, received, lost_at = session_of(first), 0, 0
    for _ in range(9):
        while received - lost_at < bytes_between_losses:
            received = sum(sent.pop(0))
            sent += payloads(script.say(frames.Ack(session, received, 0, received + 4096)))
        lost_at = received
        sent = payloads(script.say(frames.Nak(session, received, 0, received + 4096)))
    offset, chunk = sent[0]
    assert offset == received
    assert chunk == pytest.approx(math.sqrt(OVERHEAD * bytes_between_losses / 2), rel=0.1)


@pytest.mark.parametrize(("losses", "whole_again_at"), [(1, 129_000), (2, 286_000)])
def test_rule_02_chunks_grow_again_while_the_line_is_clean(losses: int, whole_again_at: int) -> None:
    image = make_image(400_000)
    script = Script()
    session = session_of(script.sending(image))
    for _ in range(losses):
        sent = payloads(script.say(frames.Nak(session, 0, 0, 4096)))
    acknowledged = []
    while sent[0][1] < 1024:
        acknowledged.append(sent.pop(0))
        received = sum(acknowledged[-1])
        sent += payloads(script.say(frames.Ack(session, received, 0, received + 4096)))
    chunks = [size for _, size in acknowledged]
    assert chunks == sorted(chunks)
    assert {size % INFO.write_unit for size in chunks} == {0}
    assert sent[0][0] == pytest.approx(whole_again_at, rel=0.02)
    assert sent[0][1] == 1024


# 3. Every ACK moves the window


def test_rule_03_every_ack_lets_the_next_chunk_go() -> None:
    script = Script()
    session = session_of(script.sending())
    for received in range(1024, 9 * 1024, 1024):
        sent = script.say(frames.Ack(session, received, 0, received + 4096))
        assert payloads(sent) == [(received + 3072, 1024)]


def test_rule_03_with_two_frames_in_flight_every_ack_lets_one_go_up_to_finish() -> None:
    script = Script(waiting=None, base_baud=100_000)  # a chunk takes too long for answers to wait
    sent = script.sending()
    session = session_of(sent)
    assert payloads(sent) == WINDOW[:2]
    for received in range(1024, SIZE - 2 * 1024, 1024):
        script.now += 1041 / 10_000
        sent = script.say(frames.Ack(session, received, 0, min(received + 4096, SIZE)))
        assert payloads(sent) == [(received + 1024, 1024)]
    last = received + 2 * 1024
    assert payloads(script.say(frames.Ack(session, received + 1024, 0, SIZE))) == [(last, SIZE - last)]
    assert script.say(frames.Ack(session, SIZE, SIZE, SIZE)) == [frames.Finish(session)]


# 4. Window and ring


def test_rule_04_no_more_than_a_window_whatever_the_credit() -> None:
    assert payloads(Script().sending(credit=SIZE)) == WINDOW


def test_rule_04_no_more_wire_bytes_than_the_ring_holds() -> None:
    script = Script(info=dataclasses.replace(INFO, rx_ring=3 * 1041 - 1))
    sent = script.sending()
    assert payloads(sent) == WINDOW[:2]
    assert sum(len(encode_stream(frame.to_bytes())) for frame in sent) <= 3 * 1041 - 1


def test_rule_04_one_frame_may_always_be_outstanding() -> None:
    assert payloads(Script(info=dataclasses.replace(INFO, rx_ring=64)).sending()) == WINDOW[:1]


def test_rule_04_only_whole_chunks() -> None:
    script = Script()
    sent = script.sending(credit=1500)
    assert payloads(sent) == WINDOW[:1]
    assert payloads(script.say(frames.Ack(session_of(sent), 1024, 0, 2047))) == []
    assert payloads(script.say(frames.Ack(session_of(sent), 1024, 0, 2048))) == WINDOW[1:2]


def test_rule_04_one_frame_a_call() -> None:
    script = Script()
    offer = script.offered()
    accept = frames.Accept(offer.session, 0, 0, 4096)
    script.session.receive_data(encode_stream(accept.to_bytes()), script.now)
    assert len(script.session.data_to_send(script.now)) == len(
        encode_stream(frames.Data(offer.session, 0, bytes(IMAGE.content[:1024])).to_bytes())
    )


def test_rule_04_what_a_device_did_not_get_before_a_nak_may_still_fill_its_ring() -> None:
    script = Script(info=dataclasses.replace(INFO, rx_ring=4200))
    session = session_of(script.sending())
    ((offset, size),) = payloads(script.say(frames.Nak(session, 0, 0, 4096)))
    assert offset == 0
    assert 0 < size <= 1024


# 5. Credit cannot be withdrawn; BUSY


def test_rule_05_never_beyond_the_credit() -> None:
    script = Script()
    sent = script.sending(credit=2048)
    assert payloads(sent) == WINDOW[:2]
    assert script.say(frames.Ack(session_of(sent), 1024, 0, 2048)) == []


def test_rule_05_a_credit_that_shrinks_is_not_believed() -> None:
    script = Script()
    session = session_of(script.sending())
    script.say(frames.Ack(session, 1024, 0, 8192))
    assert payloads(script.say(frames.Ack(session, 4096, 0, 4096))) == [
        (5120, 1024),
        (6144, 1024),
        (7168, 1024),
    ]


@pytest.mark.parametrize("state", ["offer", "data", "finish"])
def test_rule_05_a_busy_device_is_left_alone_for_as_long_as_it_asks(state: str) -> None:
    script = Script()
    session = enter(script, state)
    assert script.say(frames.Busy(session, 30_000)) == []
    assert script.silence_for(29.9) == []
    assert len(script.silence_for(2.0)) > 0
    assert isinstance(script.outcome(), Identified)  # nothing ended


@pytest.mark.parametrize("state", ["offer", "data", "finish"])
def test_rule_05_a_device_that_is_busy_for_ever_is_given_up(state: str) -> None:
    script = Script()
    session, begin = enter(script, state), script.now
    while isinstance(script.outcome(), Identified):
        script.say(frames.Busy(session, 20_000))
        script.silence_for(15.0)
        assert script.now - begin < 400
    assert script.failed_code() == "stalled"
    assert script.now - begin > 250


def test_rule_05_how_long_a_device_may_be_busy_is_a_setting() -> None:
    script = Script(busy_s=40.0)
    session, begin = enter(script, "offer"), script.now
    while isinstance(script.outcome(), Identified):
        script.say(frames.Busy(session, 10_000))
        script.silence_for(5.0)
    assert script.failed_code() == "stalled"
    assert 30 < script.now - begin <= 40


def test_rule_05_how_long_an_ack_is_waited_for_is_a_setting() -> None:
    script = Script(ack_floor_s=20.0)
    enter(script, "data")
    assert script.silence_for(19.9) == []
    assert len(script.silence_for(2.0)) > 0


@pytest.mark.parametrize("ms", [60_001, 2**32 - 1])
def test_rule_05_a_busy_of_more_than_a_minute_is_not_believed(ms: int) -> None:
    script = Script()
    session = enter(script, "data")
    script.say(frames.Busy(session, ms))
    assert script.failed_code() == "stalled"


def enter(script: Script, state: str) -> int:
    match state:
        case "offer":
            return script.offered().session
        case "data":
            return session_of(script.sending())
        case _:
            return script.finishing().session
