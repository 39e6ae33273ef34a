"""The rules that a model showed to matter, each on the gateway's side: the flow of DATA, rules 1 to 5.

Rules 6 to 12 are in test_rcp_rules_session.py, 13 in test_rcp_rules_hostile.py.
Rule 7, and the device's half of the others, are tested with the receivers.
"""

import dataclasses
import zlib

import pytest
from lab.rcp.devices import python_device
from lab.rcp.joined import Lab, make_image
from lab.rcp.script import IMAGE, INFO, Script, payloads, session_of

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.tlv_frames import Hello, Offer
from gatewayd.protocol.session import (
    Identified,
    Staged,
)

SIZE = len(IMAGE.content)
WINDOW = [(0, 1024), (1024, 1024), (2048, 1024), (3072, 1024)]


# 1. Only the gateway probes


def test_rule_01_after_a_silence_one_probe_and_not_a_window() -> None:
    script = Script()
    sent = script.sending()
    session = session_of(sent)
    assert payloads(sent) == WINDOW
    assert payloads(script.silence()) == [(4096, 0)]
    assert script.sent() == []
    assert payloads(script.say(frames.Ack(session, 0, 0, 4096))) == WINDOW


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
    assert payloads(again) == [(1024, 1024), (2048, 1024), (3072, 1024), (4096, 1024)]


def test_rule_02_an_ack_that_does_not_advance_does_not_go_back() -> None:
    script = Script()
    session = session_of(script.sending())
    assert script.say(*[frames.Ack(session, 0, 0, 4096)] * 3) == []


def test_rule_02_a_nak_of_before_is_ignored() -> None:
    script = Script()
    session = session_of(script.sending())
    script.say(frames.Ack(session, 2048, 0, 6144))
    assert script.say(frames.Nak(session, 1024, 0, 5120)) == []


def test_rule_02_two_goings_back_halve_the_chunk_to_a_floor_of_whole_write_units() -> None:
    script = Script(info=dataclasses.replace(INFO, write_unit=32, max_frame=1000))
    session = session_of(script.sending())
    chunks: list[int] = []
    for _ in range(12):
        again = script.say(frames.Nak(session, 0, 0, 4096))
        chunks.append(payloads(again)[0][1])
    assert chunks == [960, 480, 480, 224, 224, 128, 128, 128, 128, 128, 128, 128]


def test_rule_02_sixty_four_clean_acks_double_the_chunk_again() -> None:
    image = make_image(200_000)
    script = Script()
    session = session_of(script.sending(image))
    for _ in range(2):
        script.say(frames.Nak(session, 0, 0, 4096))
    received, chunks = 0, list[int]()
    for _ in range(140):
        received += chunks[-1] if chunks else 512
        sent = payloads(script.say(frames.Ack(session, received, 0, received + 4096)))
        chunks += [size for _, size in sent] or [512]
    assert set(chunks[:50]) == {512}
    assert chunks[-1] == 1024
    assert chunks.index(1024) in range(62, 70)


# 3. Every ACK moves the window


def test_rule_03_every_ack_lets_the_next_chunk_go() -> None:
    script = Script()
    session = session_of(script.sending())
    for received in range(1024, 9 * 1024, 1024):
        sent = script.say(frames.Ack(session, received, 0, received + 4096))
        assert payloads(sent) == [(received + 3072, 1024)]


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
    again = script.say(frames.Nak(session, 0, 0, 4096))
    assert payloads(again) == WINDOW[:1]


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
