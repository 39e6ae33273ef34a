"""SMP's bytes: frames, console lines, plain streams, CBOR."""

import binascii
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.protocol.smp import cbor
from gatewayd.protocol.smp.console import (
    FIRST,
    MAX_LINE,
    NEXT,
    ConsoleDeframer,
    NoFrame,
    console_size,
    encode_console,
    frame_room,
)
from gatewayd.protocol.smp.errors import MalformedError
from gatewayd.protocol.smp.frames import Frame, Group, ImageCommand, Op, OsCommand
from gatewayd.protocol.smp.plain import PlainDeframer

FRAMES = [
    Frame(Op.READ, Group.OS, OsCommand.PARAMS, 7),
    Frame(Op.READ_ANSWER, Group.OS, OsCommand.PARAMS, 7, {"buf_size": 1024, "buf_count": 4}),
    Frame(Op.WRITE_ANSWER, Group.IMAGE, ImageCommand.UPLOAD, 255, {"off": 70_000}, version=0),
    Frame(Op.WRITE_ANSWER, Group.IMAGE, ImageCommand.STATE, 0, {"err": {"group": 1, "rc": 8}}),
]
ANSWERS = [frame for frame in FRAMES if frame.is_answer]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    assert Frame.from_bytes(frame.to_bytes()) == frame


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(7),
        b"\x0b\0\0\1\0\1\0\1",
        b"\x0b\0\0\0\0\1\0\1\0",
        b"\x04\0\0\0\0\0\0\0",
        b"\x20" + bytes(7),
    ],
)
def test_a_frame_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Frame.from_bytes(data)


# -- CBOR; cbor2 is the oracle

keys = st.text(max_size=5) | st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=3)
scalars = st.none() | st.booleans() | keys | st.floats(allow_nan=False)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def depth(value: Any) -> int:
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + max(map(depth, inner), default=-1)


@given(values.filter(lambda value: depth(value) <= cbor.MAX_DEPTH))
def test_cbor_is_read_and_written_as_cbor2_does(value: Any) -> None:
    assert cbor.decode(cbor.encode(value)) == value
    assert cbor2.loads(cbor.encode(value)) == value
    assert cbor.decode(cbor2.dumps(value)) == value


REFUSED = {
    "nothing": "",
    "a tag": "c100",
    "a regular expression": "d8236161",
    "a cyclic list": "d81c81d81d00",
    "a string of open length": "5f4161ff",
    "text of open length": "7f6161ff",
    "a map that does not end": "bf616101",
    "an array that does not end": "9f01",
    "a map longer than the bytes": "bb00ffffffffffffff",
    "an array longer than the bytes": "9bffffffffffffffff",
    "bytes longer than the bytes": "5bffffffffffffffff00",
    "a key twice": "a2616101616102",
    "true and 1 as keys": "a2f50101f6",
    "a key that is a list": "a18001",
    "a key that is a map": "a1a001",
    "text that is not UTF-8": "61ff",
    "a reserved length": "1c",
    "an unassigned simple value": "e0",
    "half a float": "fa0000",
    "a break alone": "ff",
    "something behind it": "0000",
    "depth": "81" * 9 + "00",
    "depth of maps": "a100" * 9 + "00",
    "many values": "9f" + "00" * 3000 + "ff",
}


@pytest.mark.parametrize("name", REFUSED)
def test_cbor_is_refused(name: str) -> None:
    with pytest.raises(MalformedError):
        cbor.decode(bytes.fromhex(REFUSED[name]))


def test_what_has_no_encoding_is_our_mistake() -> None:
    for value in ({1, 2}, 1 << 64):
        with pytest.raises(ValueError, match=r"encoding|fit"):
            cbor.encode(value)


# -- console lines


@given(st.binary(min_size=1, max_size=900), st.integers(1, 200))
def test_console_lines_carry_a_frame(frame: bytes, size: int) -> None:
    wire = encode_console(frame)
    assert len(wire) == console_size(len(frame))
    assert all(len(line) <= 127 for line in wire.splitlines(keepends=True))
    deframer = ConsoleDeframer()
    found = [one for at in range(0, len(wire), size) for one in deframer.feed(wire[at : at + size])]
    assert found == [frame]
    assert deframer.kept == 0


def test_the_room_in_a_buffer_reaches_the_framing_ceiling() -> None:
    """A buffer of 1024 bytes: 994 bytes of image in 1,404 on the line, 70.8 %."""
    assert frame_room(1024) == 1020
    assert console_size(1020) == 1404


def test_a_line_by_hand() -> None:
    frame = bytes.fromhex("0200000100010001a0")
    crc = binascii.crc_hqx(frame, 0).to_bytes(2, "big")
    assert encode_console(frame) == FIRST + binascii.b2a_base64(b"\0\x0b" + frame + crc)


LONG = bytes(range(200))
LINES = encode_console(LONG).splitlines(keepends=True)


@pytest.mark.parametrize(
    ("said", "frames"),
    [
        (b"".join(LINES), 1),
        (b"[00:00:01] <inf> boot\r\n" + b"".join(LINES), 1),
        (b"text without an end" + b"".join(LINES), 1),
        (LINES[0] + b"<wrn> a line of the log\r\n" + b"".join(LINES[1:]), 1),
        (b"".join(LINES).replace(b"\n", b"\r\n"), 1),
        (LINES[0] + b"".join(LINES), 1),
        (b"".join(LINES[1:]) + b"".join(LINES), 1),
        (LINES[0] + b"".join(LINES[2:]) + b"".join(LINES), 1),
        (b"".join(LINES)[:-9] + b"AAAA" + b"".join(LINES)[-5:] + b"".join(LINES), 1),
        (LINES[0].replace(b"A", b"!", 1) + b"".join(LINES[1:]), 0),
        (FIRST + b"//8A\n" + b"".join(LINES), 1),
        (FIRST + b"AAA=\n" + b"".join(LINES), 1),
        (FIRST + b"\n" + b"".join(LINES), 1),
        (b"".join(LINES) * 3, 3),
    ],
)
def test_text_and_damage_cost_no_whole_frame(said: bytes, frames: int) -> None:
    found = ConsoleDeframer().feed(said)
    assert [one for one in found if isinstance(one, bytes)] == [LONG] * frames


def test_text_comes_out_and_a_line_without_end_is_cut() -> None:
    deframer = ConsoleDeframer()
    assert deframer.feed(b"boot ok\r\n\r\nhel") == [NoFrame(b"boot ok\r")]
    assert deframer.unfinished == b"hel"
    found = deframer.feed(b"x" * (5 * MAX_LINE))
    assert deframer.kept <= 2 * MAX_LINE
    assert sum(len(one.run) for one in found if isinstance(one, NoFrame)) + deframer.kept == 5 * MAX_LINE + 3
    assert NEXT not in deframer.unfinished


# -- without framing


@pytest.mark.parametrize("size", [1, 5, 500])
def test_plain_answers_are_put_together_by_the_headers_length(size: int) -> None:
    wires = [frame.to_bytes() for frame in ANSWERS]
    said = b"*** Booting Zephyr ***\r\n" + b"".join(wires) + b"\xff\0log\n" + wires[0]
    deframer = PlainDeframer()
    found = [one for at in range(0, len(said), size) for one in deframer.feed(said[at : at + size])]
    assert [one for one in found if isinstance(one, bytes)] == [*wires, wires[0]]
    text = b"".join(one.run for one in found if isinstance(one, NoFrame))
    assert text == b"*** Booting Zephyr ***\r\n\xff\0log\n"


def test_an_answer_that_stays_unfinished_is_dropped_by_word() -> None:
    wire = ANSWERS[0].to_bytes()
    deframer = PlainDeframer()
    assert deframer.feed(wire[:-1]) == []
    assert deframer.unfinished == wire[:-1]
    deframer.drop()
    assert deframer.feed(wire) == [wire]
