"""The golden frames against the receiver in C: what it takes, what it does not, and what it writes."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.c_receiver_bench import c_bench
from lab.receiver_bench import PROFILE

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.tlv_frames import Hello, Info

VECTORS = Path(__file__).parent.parent / "vectors" / "rcp"
HELLO = Hello(0x01020304, "barn-pi")


def lines(name: str) -> list[list[str]]:
    text = (VECTORS / name).read_text()
    return [line.split(" | ") for line in text.splitlines() if line and not line.startswith("#")]


FRAMES = {
    name: (bytes.fromhex(content)[:-4], bytes.fromhex(wire)) for name, content, wire in lines("frames.txt")
}
BROKEN = [
    (f"{reason}-{number}", bytes.fromhex(wire)) for number, (reason, wire) in enumerate(lines("broken.txt"))
]
# What a device in IDLE answers to each frame of a gateway; in the session of that frame.
ANSWERS: dict[str, type[frames.Frame] | RcpCode] = {
    "hello": Info,
    "offer": frames.Accept,
    "offer_from_zero_second_try": frames.Accept,
    "finish": RcpCode.NO_SESSION,
    "activate": RcpCode.NO_SESSION,
    "confirm_sha256": RcpCode.NOT_RUNNING,
    "confirm_version": RcpCode.NOT_RUNNING,
    "abort_keep": RcpCode.NO_SESSION,
    "abort_forget": frames.Aborted,
    "set_baud": frames.BaudOk,
    "probe": RcpCode.NO_SESSION,
}


@pytest.mark.parametrize("name", FRAMES)
def test_it_takes_the_golden_frames(name: str) -> None:
    """DATA with 1 to 1024 bytes, and COBS at its edges, shows by `no_session`, which needs a whole frame."""
    content, wire = FRAMES[name]
    on = c_bench()
    answers = on.say(wire)
    expected = RcpCode.NO_SESSION if content[0] == 0x40 else ANSWERS.get(name)
    if expected is None:
        assert content[0] not in frames.FROM_GATEWAY
        assert answers == []  # only devices send it
    elif isinstance(expected, RcpCode):
        assert answers == [frames.Error(content[1], expected)]
    else:
        assert isinstance(answers[-1], expected)


@pytest.mark.parametrize("wire", [wire for _, wire in BROKEN], ids=[name for name, _ in BROKEN])
def test_a_broken_frame_is_a_gap_and_the_next_one_is_taken(wire: bytes) -> None:
    on = c_bench()
    session = on.bring_in(upto=1024)
    answers = on.say(wire)
    is_something = bool(wire.strip(b"\0"))
    assert answers == [frames.Nak(session, 1024, 0, 5120)] * is_something
    assert [type(answer) for answer in on.ask(HELLO)] == [Info]


@pytest.mark.parametrize("wire", [wire for _, wire in BROKEN], ids=[name for name, _ in BROKEN])
def test_a_broken_frame_says_nothing_outside_of_recv(wire: bytes) -> None:
    on = c_bench()
    assert on.say(wire) == []


def info_device(**changes: object) -> bytes:
    numbers = {"slot_address": 0x8000, "slot_size": 0x20000, "boot_time_s": 2}
    profile = dataclasses.replace(PROFILE, version="4.3.1", **{**numbers, **changes})  # type: ignore[arg-type]  # by name
    running = changes and b"the image that runs"
    on = c_bench(profile, running=running or None, boot_ids=iter([0x11223344]))
    on.device.receive_data(encode_stream(HELLO.to_bytes()), on.now)
    return on.device.data_to_send(on.now)


def test_it_writes_info_as_the_conversations_have_it() -> None:
    """Byte for byte, with COBS and CRC: a frame of more than 127 bytes with many zeros."""
    (told,) = [
        line[2:]
        for line in (VECTORS / "conversation-gaps.txt").read_text().splitlines()
        if line.startswith("< 0200")
    ]
    names = {"app_id": "pump", "hardware_id": "pump-rev-b", "device_id": "pump-1"}
    wire = info_device(**names, can_set_baud=False)
    assert wire == encode_stream(bytes.fromhex(told))


def test_info_of_every_length_is_whole() -> None:
    """COBS of 254 bytes without a zero, and around; the longest INFO there is."""
    for size in range(1, 65):
        text = "x" * size
        on = c_bench(app_id=text, hardware_id=text, device_id=text[:32], slot_address=0x01010101)
        info = on.ask(HELLO)[0]
        assert isinstance(info, Info)
        assert (info.device.app_id, info.device.hardware_id, info.device.device_id) == (text, text, text[:32])


@given(st.binary(min_size=1, max_size=1400).filter(lambda content: content[0] not in (0x03, 0x0D, 0x11)))
@settings(max_examples=200)
def test_a_frame_of_any_content_is_answered_at_most_once(content: bytes) -> None:
    on = c_bench()
    assert len(on.say(encode_stream(content))) <= 1
    assert on.hello().app_id == "pump"


@given(st.lists(st.binary(max_size=300), max_size=10), st.integers(1, 64))
@settings(max_examples=100)
def test_it_does_not_matter_in_what_pieces_bytes_come(noise: list[bytes], step: int) -> None:
    wire = b"".join(noise) + b"\0" + encode_stream(HELLO.to_bytes())
    at_once, piecewise = c_bench(), c_bench()
    told = at_once.say(wire)
    pieces = [piecewise.say(wire[at : at + step]) for at in range(0, len(wire), step)]
    assert [answer for piece in pieces for answer in piece] == told
