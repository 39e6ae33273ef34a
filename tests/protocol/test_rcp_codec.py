"""Framing, frames and TLV against the golden vectors, and for whatever bytes there may be."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.protocol.rcp import frames, framing, tlv
from gatewayd.protocol.rcp.codes import FrameError, RcpCode, Remedy, code_name, remedy
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.session import ImageState

VECTORS = Path(__file__).parent.parent / "vectors" / "rcp"
MAX_FRAME = 1034


def lines(name: str) -> list[list[str]]:
    text = (VECTORS / name).read_text()
    return [line.split(" | ") for line in text.splitlines() if not line.startswith("#")]


FRAMES = {name: (bytes.fromhex(frame), bytes.fromhex(wire)) for name, frame, wire in lines("frames.txt")}
ACK = framing.encode_stream(frames.Ack(7, 1, 0, 2).to_bytes())


@pytest.mark.parametrize("name", FRAMES)
def test_golden_frame_both_ways(name: str) -> None:
    frame, wire = FRAMES[name]
    content = frame[: -framing.CRC_SIZE]
    assert framing.StreamDeframer(MAX_FRAME).feed(wire) == [content]
    assert framing.unseal(frame, MAX_FRAME) == content
    again = frames.decode(content).to_bytes()
    assert again == content
    assert framing.seal(again) == frame
    assert framing.encode_stream(again) == wire


def test_golden_frames_cover_every_type() -> None:
    assert {frame[0] for frame, _ in FRAMES.values()} == set(frames.FrameType)


def test_golden_info_says_what_it_should() -> None:
    info = frames.decode(FRAMES["info_full"][0][:-4])
    assert isinstance(info, frames.Info)
    assert info.device.app_id == "pump"
    assert info.device.image_state is ImageState.REVERTED
    assert (info.device.can_set_baud, info.device.can_revert) == (False, True)
    assert (info.device.slot_address, info.device.slot_size) == (0x8000, 0x20000)
    assert info.device.tried_count == 1
    minimal = frames.decode(FRAMES["info_minimal"][0][:-4])
    assert isinstance(minimal, frames.Info)
    assert minimal.device.version is None
    assert minimal.device.running_sha256 is None


@pytest.mark.parametrize(("reason", "wire"), lines("broken.txt"))
def test_broken_wire_yields_no_frame_and_does_not_spoil_the_next(reason: str, wire: str) -> None:
    deframer = framing.StreamDeframer(MAX_FRAME)
    found = deframer.feed(bytes.fromhex(wire))
    assert all(isinstance(one, framing.BrokenFrame) for one in found)
    assert bool(found) == (reason != "nothing")
    reasons = {one.reason.value for one in found if isinstance(one, framing.BrokenFrame)}
    if reason in [broken.value for broken in framing.Broken]:
        assert reasons == {reason}
    assert deframer.feed(ACK) == [frames.Ack(7, 1, 0, 2).to_bytes()]


PIECES = [*(wire for _, wire in FRAMES.values()), b"boot\r\n", b"\0\0", b"A" * 2000]


@given(st.lists(st.sampled_from(PIECES)), st.data())
def test_deframing_does_not_depend_on_the_pieces(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    whole = framing.StreamDeframer(MAX_FRAME).feed(stream)
    pieces = framing.StreamDeframer(MAX_FRAME)
    spans = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    found = [one for start, end in spans for one in pieces.feed(stream[start:end])]
    assert found == whole


@given(st.binary(max_size=3000))
def test_deframer_holds_no_more_than_one_frame(noise: bytes) -> None:
    deframer = framing.StreamDeframer(200)
    for at in range(0, len(noise), 7):
        deframer.feed(noise[at : at + 7])
    rest = deframer.feed(b"\0")
    assert sum(len(one.run) for one in rest if isinstance(one, framing.BrokenFrame)) <= framing.cobs_size(200)


runs = st.builds(lambda n, zeros: b"x" * n + b"\0" * zeros, st.integers(0, 600), st.integers(0, 3))


@given(st.binary(max_size=700) | runs)
def test_cobs_round_trip_without_zeros_within_bounds(data: bytes) -> None:
    coded = framing.cobs_encode(data)
    assert 0 not in coded
    assert framing.cobs_decode(coded) == data
    assert len(coded) <= max(1, framing.cobs_size(len(data)))


@given(st.binary(max_size=600))
def test_cobs_decoding_noise_never_raises_or_grows(noise: bytes) -> None:
    decoded = framing.cobs_decode(noise)
    assert decoded is None or len(decoded) <= len(noise)


@given(st.sampled_from(sorted(frames.FrameType)), st.integers(0, 255), st.binary(max_size=300))
def test_decoding_noise_raises_frame_error_or_means_the_same(number: int, session: int, body: bytes) -> None:
    try:
        frame = frames.decode(bytes((number, session)) + body)
    except FrameError as error:
        assert error.number in (RcpCode.MALFORMED, RcpCode.UNKNOWN_CRITICAL_TAG)  # noqa: PT017 - both ways are right
    else:
        assert frames.decode(frame.to_bytes()) == frame


u32 = st.integers(0, 2**32 - 1)
text = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=8)
digest = st.binary(min_size=32, max_size=32)


@st.composite
def devices(draw: st.DrawFn) -> RcpInfo:
    tried = draw(st.none() | digest)
    return RcpInfo(
        app_id=draw(text),
        boot_id=draw(u32),
        image_state=draw(st.sampled_from(ImageState)),
        max_frame=draw(st.integers(138, 65535)),
        window=draw(st.integers(1, 2**32 - 1)),
        rx_ring=draw(u32),
        slot_size=draw(u32),
        erase_block=draw(st.integers(1, 2**32 - 1)),
        write_unit=draw(st.integers(1, 65535)),
        boot_time_s=draw(st.integers(0, 65535)),
        can_set_baud=draw(st.booleans()),
        can_revert=draw(st.booleans()),
        hardware_id=draw(st.none() | text),
        device_id=draw(st.none() | text),
        version=draw(st.none() | st.just("1.2.3")),
        slot_address=draw(st.none() | u32),
        running_sha256=draw(st.none() | digest),
        tried_sha256=tried,
        tried_count=0 if tried is None else draw(st.integers(0, 255)),
        can_short_data=draw(st.booleans()),
    )


@given(devices(), u32)
def test_info_round_trip(device: RcpInfo, nonce: int) -> None:
    info = frames.Info(nonce, device)
    assert frames.decode(info.to_bytes()) == info


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ("0104", RcpCode.MALFORMED),  # four bytes announced, none there
        ("010400000000 01", RcpCode.MALFORMED),  # a tag without a length
        ("0104000000000104 00000000", RcpCode.MALFORMED),  # twice
        ("0103000000", RcpCode.MALFORMED),  # not the tag's length
        ("", RcpCode.MALFORMED),  # missing
        ("010400000000 8000", RcpCode.UNKNOWN_CRITICAL_TAG),
        ("8000 01", RcpCode.UNKNOWN_CRITICAL_TAG),  # what is wrong first decides
        ("01 8000", RcpCode.MALFORMED),
    ],
)
def test_rule_13_tlv_lengths_and_tags(body: str, number: RcpCode) -> None:
    with pytest.raises(FrameError) as caught:
        tlv.unpack(bytes.fromhex(body), [tlv.Tag.NONCE])
    assert caught.value.number is number


def test_unknown_tag_below_0x80_is_ignored() -> None:
    assert tlv.unpack(bytes.fromhex("7f01ff010405000000"), [tlv.Tag.NONCE]) == {tlv.Tag.NONCE: 5}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("170400100000", "170400000000"), "window is 0"),
        (("1b0400100000", "1b0400000000"), "erase_block is 0"),
        (("1c020800", "1c020000"), "write_unit is 0"),
        (("16020a04", "16028900"), "max_frame"),
        (("150102", "150103"), "image_state"),
        (("020101", "020102"), "protocol versions"),
        (("210101", ""), "only one of"),
        (("100470756d70", "100470756d00"), "printable"),
        (("100470756d70", "1004ff756d70"), "printable"),
    ],
)
def test_info_that_makes_no_sense_is_malformed(change: tuple[str, str], says: str) -> None:
    content = FRAMES["info_full"][0][:-4].hex()
    assert content.count(change[0]) == 1
    with pytest.raises(FrameError, match=says):
        frames.decode(bytes.fromhex(content.replace(*change)))


@pytest.mark.parametrize(
    "content",
    ["0107", "0700", "400000000000", "410000000000", "0600", "13070101ff", "4007000000"],
)
def test_wrong_session_or_size_is_malformed(content: str) -> None:
    with pytest.raises(FrameError) as caught:
        frames.decode(bytes.fromhex(content))
    assert caught.value.number is RcpCode.MALFORMED


def test_unknown_type() -> None:
    with pytest.raises(FrameError) as caught:
        frames.decode(b"\x30\x01")
    assert caught.value.number is RcpCode.UNKNOWN_TYPE


def test_codes_of_later_versions_still_have_a_meaning() -> None:
    assert [remedy(n) for n in (0x0142, 0x0242, 0x0342, 0x9942)] == [
        Remedy.HELLO,
        Remedy.FROM_ZERO,
        Remedy.GIVE_UP,
        Remedy.GIVE_UP,
    ]
    assert code_name(0x0305) == "too_large"
    assert code_name(0x0342) == "code_0342"
