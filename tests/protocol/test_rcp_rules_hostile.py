"""Rule 13 on the gateway's side: a hostile device costs bounded memory and time."""

import dataclasses
import zlib
from collections.abc import Callable

import pytest
from lab.parsers import peak_bytes
from lab.rcp.joined import make_image
from lab.rcp.script import IMAGE, INFO, Script, payloads, session_of

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.tlv_frames import Hello, Info, Offer
from gatewayd.protocol.session import Console, Failed, Identified

attack = pytest.mark.attack
SIZE = len(IMAGE.content)
WINDOW = [(0, 1024), (1024, 1024), (2048, 1024), (3072, 1024)]


@attack("numbers past the end, or past what was sent", "bad_offset")
@pytest.mark.parametrize(
    ("received", "durable", "credit"),
    [
        (4097, 0, 8192),  # more than was sent
        (SIZE + 1, 0, SIZE + 1),
        (2**32 - 1, 2**32 - 1, 2**32 - 1),
        (2048, 0, 1024),  # credit below what was received
        (1024, SIZE + 1, 4096),
        (1024, 0, SIZE + 1),
    ],
)
@pytest.mark.parametrize("kind", [frames.Ack, frames.Nak])
def test_rule_13_numbers_that_cannot_be_end_it(
    kind: type[frames.Ack] | type[frames.Nak], received: int, durable: int, credit: int
) -> None:
    script = Script()
    session = session_of(script.sending())
    assert script.say(kind(session, received, durable, credit)) == []
    assert script.failed_code() == "bad_offset"


@attack("it takes back what it acknowledged, again and again", "backwards")
def test_rule_13_a_device_that_takes_back_what_it_said_is_not_waited_for() -> None:
    script = Script()
    session = session_of(script.sending())
    script.say(frames.Ack(session, 4096, 0, 8192))
    fewer = [frames.Ack(session, received, 0, 8192) for received in range(4000, 0, -500)]
    script.say(*fewer)
    assert script.outcome() == Identified(script.info.common)  # still under way
    script.say(frames.Nak(session, 0, 0, 8192))
    outcome = script.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "backwards"
    assert "said that it has 4096 bytes" in outcome.error.message


@attack("one byte a second acknowledged", "stalled")
def test_rule_13_a_byte_a_second_is_no_transfer() -> None:
    script, began, received = Script(), 0.0, 0
    offer = script.offered()
    while not isinstance(outcome := script.outcome(), Failed):
        began = began or script.now
        answers = script.say(frames.Accept(offer.session, 0, 0, 4096))
        session, received = session_of(answers), 0
        while not (hello := [frame for frame in script.silence_for(1.0) if isinstance(frame, Hello)]):
            received += 1
            answers = script.say(frames.Ack(session, received, 0, received + 4096))
            hello = [frame for frame in answers if isinstance(frame, Hello)]
            if hello or isinstance(script.outcome(), Failed):
                break
        if hello:
            (again,) = script.greet(hello[-1])
            assert isinstance(again, Offer)
            offer = again
    assert outcome.error.code == "stalled"
    assert "only 60 bytes in the last 60 s of DATA at 60 of 20000 bytes" in outcome.error.message
    assert script.now - began < 3 * 61


def test_rule_13_a_slow_device_that_says_busy_is_waited_for() -> None:
    script = Script()
    session = session_of(script.sending())
    for received in range(1024, 11 * 1024, 1024):
        for _ in range(4):
            script.say(frames.Busy(session, 30_000))
            script.silence_for(30.0)
        script.say(frames.Ack(session, received, received - received % 4096, received + 4096))
    assert script.outcome() == Identified(script.info.common)


@pytest.mark.parametrize("step", [1, 60, 1024])
def test_rule_13_a_device_that_spends_its_time_on_being_busy_is_given_up(step: int) -> None:
    """A byte, BUSY, a byte: it answers and advances, and would need two years for 1 MiB."""
    script = Script()
    session, began, received = session_of(script.sending()), script.now, 0
    while isinstance(script.outcome(), Identified):
        received = min(received + step, SIZE - 1)
        script.say(frames.Ack(session, received, received if step < 1024 else 0, received + 4096))
        for _ in range(4):
            script.say(frames.Busy(session, 30_000))
            script.silence_for(30.0)
        assert script.now - began < 3 * 600
    assert script.failed_code() == "stalled"
    assert script.now - began >= 600


def test_rule_13_old_answers_among_new_ones_do_no_harm() -> None:
    script = Script()
    session = session_of(script.sending())
    for received in range(1024, SIZE - 1024, 1024):
        credit = min(received + 4096, SIZE)
        old = frames.Ack(session, received - 1024, 0, credit)
        script.say(frames.Ack(session, received, 0, credit), *[old] * 8)
    assert script.outcome() == Identified(script.info.common)


def test_rule_13_an_accept_that_cannot_be_sends_nothing() -> None:
    script = Script()
    offer = script.offered()
    script.say(frames.Accept(offer.session, 4096, zlib.crc32(IMAGE.content[:4096]), 1024))
    assert script.failed_code() == "bad_offset"


@attack("a window of 4 GiB")
def test_rule_13_a_device_may_claim_anything_and_gets_a_bounded_number_of_frames() -> None:
    huge = 2**32 - 1
    script = Script(info=dataclasses.replace(INFO, window=huge, rx_ring=huge, max_frame=65535, write_unit=1))
    image = make_image(1_000_000)
    offer = script.offered(image)
    sent = script.say(frames.Accept(offer.session, 0, 0, len(image.content)))
    assert 4 <= len(sent) <= 512
    assert max(size for _, size in payloads(sent)) == 1024


@pytest.mark.parametrize("write_unit", [1500, 65535])
def test_rule_13_a_write_unit_larger_than_a_chunk_does_not_stop_it(write_unit: int) -> None:
    script = Script(info=dataclasses.replace(INFO, write_unit=write_unit))
    assert payloads(script.sending())[0] == (0, 1024)


@attack("text without an end")
def test_rule_13_endless_text_is_kept_in_bounds() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    for _ in range(2000):
        script.session.receive_data(b"all work and no play\r\n" * 50, script.now)
    events = []
    while (event := script.session.next_event()) is not None:
        events.append(event)
    assert 1 <= len(events) <= 200
    assert all(isinstance(event, Console) and len(event.text) <= 200 for event in events)


FLOODS: dict[str, tuple[Callable[[int], frames.Frame], str]] = {
    "ACK that advances nothing": (lambda session: frames.Ack(session, 0, 0, 4096), "no_answer"),
    "ACK of one chunk": (lambda session: frames.Ack(session, 1024, 0, 5120), "no_answer"),
    "ACK of another session": (lambda session: frames.Ack(session % 255 + 1, 0, 0, 4096), "no_answer"),
    "NAK": (lambda session: frames.Nak(session, 0, 0, 4096), "no_answer"),
    "ACCEPT": (lambda session: frames.Accept(session, 0, 0, 4096), "no_answer"),
    "FINISHED": (lambda session: frames.Finished(session, bytes(32)), "no_answer"),
    "ERROR": (lambda session: frames.Error(session, 0x0103), "no_answer"),
    "BUSY": (lambda session: frames.Busy(session, 60_000), "stalled"),
    "INFO": (lambda _: Info(1, INFO), "late"),
}


@attack("a flood of ACKs, NAKs, BUSYs and other answers", "late", "no_answer", "stalled")
@pytest.mark.parametrize("name", FLOODS)
def test_rule_13_a_flood_of_answers_is_answered_seldom_and_ends(name: str) -> None:
    make, code = FLOODS[name]
    script = Script()
    frame = make(session_of(script.sending()))
    wire, sent = encode_stream(frame.to_bytes()), []

    def flood() -> None:
        for _ in range(5000):
            script.session.receive_data(wire, script.now)
            sent.extend(script.sent())

    assert peak_bytes(flood) < 1_000_000
    assert len(sent) < 400
    began = script.now
    while not isinstance(script.outcome(), Failed):
        script.silence()
        script.say(frame)
    assert script.failed_code() == code
    assert script.now - began <= 300
    assert len(script.events) < 10


def test_rule_13_frames_between_noise_are_still_heard() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    (hello,) = script.sent()
    assert isinstance(hello, Hello)
    info = encode_stream(Info(hello.nonce, INFO).to_bytes())
    script.session.receive_data(b"\xff" * 5000 + info, script.now)
    assert script.outcome() == Identified(INFO.common)
