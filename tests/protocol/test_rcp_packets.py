"""Packets: the golden vectors, fragments of all sizes, and half an offset."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import MIN_FRAME, Broken, BrokenFrame, seal
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.rcp.packets import (
    MAX_PACKET,
    MIN_PACKET,
    MOST_FRAGMENTS,
    Assembler,
    ShortData,
    clamp,
    split,
)
from gatewayd.protocol.rcp.tlv_frames import Hello, Info, Offer
from gatewayd.protocol.session import ImageState

VECTORS = Path(__file__).parent.parent / "vectors" / "rcp"
ACK = frames.Ack(7, 1, 0, 2).to_bytes()
LONGEST_GATEWAY_FRAME = 138
HALF = 0x8000
TEXTS = 150  # protocol.md, section 11: what the four texts of INFO have together


def lines(name: str) -> list[list[str]]:
    text = (VECTORS / name).read_text()
    return [line.split(" | ") for line in text.splitlines() if not line.startswith("#")]


def unhex(packets: str) -> list[bytes]:
    return [bytes.fromhex(packet) for packet in packets.split()]


def feed(packets: list[bytes], max_frame: int = 512) -> list[bytes | ShortData | BrokenFrame | None]:
    assembler = Assembler(max_frame)
    return [assembler.feed(packet) for packet in packets]


# The vectors


@pytest.mark.parametrize(("name", "most", "frame", "packets"), lines("packets.txt"))
def test_golden_packets_both_ways(name: str, most: str, frame: str, packets: str) -> None:
    content = bytes.fromhex(frame)[:-4]
    assert split(content, int(most)) == unhex(packets), name
    assert feed(unhex(packets)) == [None] * (len(unhex(packets)) - 1) + [content]


def test_golden_packets_have_the_longest_there_can_be() -> None:
    assert max(len(unhex(packets)) for *_, packets in lines("packets.txt")) == MOST_FRAGMENTS


@pytest.mark.parametrize(("reason", "packets"), lines("broken-packets.txt"))
def test_broken_packets_yield_no_frame_and_do_not_spoil_the_next(reason: str, packets: str) -> None:
    assembler = Assembler(138)
    found = [one for packet in unhex(packets) if (one := assembler.feed(packet)) is not None]
    assert all(isinstance(one, BrokenFrame) for one in found)
    reasons = {one.reason.value for one in found if isinstance(one, BrokenFrame)}
    assert (reason in reasons) == (reason != "cut_off")
    assert assembler.feed(seal(ACK)) == ACK


@pytest.mark.parametrize(("name", "expected", "packet", "content"), lines("short-data.txt"))
def test_golden_short_data_both_ways(name: str, expected: str, packet: str, content: str) -> None:
    data = frames.decode(bytes.fromhex(content))
    assert isinstance(data, frames.Data)
    short = ShortData(data.session, data.offset & 0xFFFF, data.payload)
    assert short.to_bytes() == bytes.fromhex(packet), name
    assert feed([bytes.fromhex(packet)]) == [short]
    assert short.offset(int(expected)) == data.offset


# Fragments


@given(st.binary(min_size=2, max_size=500), st.integers(MIN_PACKET, MAX_PACKET))
def test_a_frame_of_any_size_comes_through_packets_of_any_size(content: bytes, most: int) -> None:
    packets = split(content, most)
    if not packets:
        assert len(content) + 4 > MOST_FRAGMENTS * (most - 1)
        return
    assert all(0 < len(packet) <= most for packet in packets)
    if len(packets) > 1 or not content[0] >= 0x60:  # no type of a whole frame
        assert feed(packets, 600)[-1] == content


@given(st.binary(min_size=40, max_size=250), st.data())
def test_a_fragment_lost_repeated_or_out_of_its_place_drops_the_frame(
    content: bytes, data: st.DataObject
) -> None:
    packets = split(content, 20)
    at = data.draw(st.integers(0, len(packets) - 1))
    other = data.draw(st.integers(0, len(packets) - 1).filter(lambda number: number != at))
    fate = data.draw(st.sampled_from(["lost", "repeated", "swapped"]))
    if fate == "lost":
        del packets[at]
    elif fate == "repeated" and 0 < at < len(packets) - 1:  # of the first and the last nothing is lost
        packets.insert(at, packets[at])
    else:
        packets[at], packets[other] = packets[other], packets[at]
    assembler = Assembler(512)
    assert content not in [assembler.feed(packet) for packet in packets]
    assert [assembler.feed(packet) for packet in split(ACK, 20)] == [ACK]


@given(
    st.lists(st.binary(max_size=40) | st.builds(lambda n: bytes((0x60 | n,)) + b"x" * 39, st.integers(0, 15)))
)
def test_packets_of_any_kind_never_raise_and_what_is_held_is_bounded(packets: list[bytes]) -> None:
    assembler = Assembler(138)
    for packet in packets:
        found = assembler.feed(packet)
        held = assembler._begun  # noqa: SLF001 - nothing else tells
        assert held is None or len(held) <= 138
        assert not isinstance(found, bytes) or MIN_FRAME - 4 <= len(found) <= 134


def test_fragments_of_more_than_a_frame_are_given_up_as_soon_as_that_shows() -> None:
    found = feed([bytes((0x60 | number,)) + b"x" * 39 for number in range(16)], 138)
    assert found[:3] == [None] * 3
    assert [one.reason for one in found[3:5] if isinstance(one, BrokenFrame)] == [
        Broken.TOO_LONG,
        Broken.OUT_OF_ORDER,
    ]


def test_a_frame_between_fragments_ends_the_one_begun() -> None:
    first, *rest = split(Hello(1, "g" * 60).to_bytes(), 20)
    found = feed([first, seal(ACK), *rest])
    assert found[:2] == [None, ACK]
    assert {one.reason for one in found[2:] if isinstance(one, BrokenFrame)} == {Broken.OUT_OF_ORDER}
    assert len(found) == 2 + len(rest)


def test_the_longest_control_frames_go_into_sixteen_packets_of_20() -> None:
    text = "x" * 64
    offer = Offer(127, bytes(32), 2**32 - 1, "1.0." + "1" * 58, 0, from_zero=True, second_try=True)
    for frame in (Hello(1, text), offer, frames.Confirm(1, version="1.0." + "1" * 58)):
        assert len(frame.to_bytes()) + 4 <= LONGEST_GATEWAY_FRAME
        assert 1 < len(split(frame.to_bytes(), MIN_PACKET)) <= MOST_FRAGMENTS


def longest_info(texts: int) -> Info:
    """Return an INFO with everything there can be in it, and `texts` bytes of text."""
    return Info(
        1,
        RcpInfo(
            "a" * (texts - 94), 1, ImageState.REVERTED, 512, 1, 1, 1, 1, 1, 1, True, True,
            hardware_id="h" * 57, device_id="d" * 32, version="1.2.3", slot_address=1,
            running_sha256=bytes(32), tried_sha256=bytes(32), tried_count=2, can_short_data=True,
        ),
    )  # fmt: skip


def test_an_info_of_150_bytes_of_text_goes_into_sixteen_packets_of_20_and_not_one_more() -> None:
    assert len(split(longest_info(TEXTS).to_bytes(), MIN_PACKET)) == MOST_FRAGMENTS
    assert split(longest_info(TEXTS + 1).to_bytes(), MIN_PACKET) == []


# SHORT_DATA


@given(st.integers(0, 2**32 - 1), st.integers(-HALF, HALF - 1))
def test_half_an_offset_is_not_ambiguous_within_the_window(expected: int, away: int) -> None:
    meant = (expected + away) % 2**32
    assert ShortData(7, meant & 0xFFFF, b"").offset(expected) == meant


@given(st.integers(1, 127), st.integers(0, 0xFFFF), st.binary(max_size=100))
def test_short_data_round_trip(session: int, low: int, payload: bytes) -> None:
    short = ShortData(session, low, payload)
    assert len(short.to_bytes()) == len(payload) + 3
    assert feed([short.to_bytes()]) == [short]


@pytest.mark.parametrize(("says", "used"), [(20, 20), (19, 20), (244, 244), (512, 512), (514, 512)])
def test_a_packet_has_what_bluetooth_leaves(says: int, used: int) -> None:
    assert clamp(says) == used
