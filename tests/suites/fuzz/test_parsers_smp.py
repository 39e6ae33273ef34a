"""Whatever SMP's parsers are given, they read it or raise the error they declare, and the work is bounded."""

import io
import random
from collections.abc import Callable, Sequence
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.parsers import THOROUGH, counted, edited, words
from lab.smp.recipes import Recipe, make_image

from gatewayd.errors import FirmwareError
from gatewayd.protocol.smp import cbor
from gatewayd.protocol.smp.console import FIRST, MAX_LINE, MAX_PACKET, NEXT, ConsoleDeframer, encode_console
from gatewayd.protocol.smp.errors import MalformedError
from gatewayd.protocol.smp.frames import HEADER_SIZE, MAX_PAYLOAD, Frame, Group, Op
from gatewayd.protocol.smp.mcuboot import read_image
from gatewayd.protocol.smp.plain import PlainDeframer

HEADS = [
    bytes((kind << 5 | argument,)) for kind in range(8) for argument in (0, 1, 2, 20, 23, *range(24, 32))
]
ITEMS = [
    *HEADS,
    *(cbor.encode(text) for text in ("off", "data", "rc", "err", "images")),
    *(cbor.encode(number) for number in (70_000, -1)),
    cbor.encode(b"x" * 32),
    cbor.encode([1]),
    b"\xbf\x63off\x00\xff",
    b"\xff",
    b"\x18",
    b"\xd8\x23",
    b"\x9b" + b"\xff" * 8,
]
CBOR_STARTS = [b"", b"\xa1\x61a", b"\xbf", b"\x9f", b"\x82"]
CBOR_PLACES = [(at, item) for at in (0, 1, 2, 3, 6, 11) for item in ITEMS]


@THOROUGH
@given(st.sampled_from(CBOR_STARTS), words(CBOR_PLACES, 5))
def test_cbor(start: bytes, items: list[tuple[int, bytes]]) -> None:
    data = edited(start, items)
    with counted() as steps:
        try:
            value = cbor.decode(data)
        except MalformedError:
            return
    assert steps.count <= 30 + 25 * len(data)
    expected = repr(cbor2.load(io.BytesIO(data))).replace("undefined", "None")
    assert repr(value) == expected, "the oracle reads the same, NaN included"
    assert repr(cbor.decode(cbor.encode(value))) == repr(value)


WRITTEN = [
    Frame(op, group, 1, sequence, payload).to_bytes()
    for op in Op
    for group in (Group.OS, Group.IMAGE, 64)
    for sequence in (0, 255)
    for payload in ({}, {"off": 1}, {"images": [{"slot": 0, "hash": bytes(32)}]})
]
FRAME_PLACES = [(at, piece) for at in range(12) for piece in [*ITEMS, b"\0", b"\1", b"\x0b", b"\x20"]]


@THOROUGH
@given(st.sampled_from(WRITTEN), words(FRAME_PLACES, 2), st.booleans())
def test_a_frame(start: bytes, edits: list[tuple[int, bytes]], is_mended: bool) -> None:
    data = edited(start, edits)
    if is_mended and len(data) >= HEADER_SIZE:
        data = data[:2] + (len(data) - HEADER_SIZE).to_bytes(2, "big") + data[4:]
    with counted() as steps:
        try:
            frame = Frame.from_bytes(data)
        except MalformedError:
            frame = None
    assert steps.count <= 60 + 25 * len(data)
    assert frame is None or repr(Frame.from_bytes(frame.to_bytes())) == repr(frame)


LINES = [line for frame in WRITTEN for line in encode_console(frame).splitlines(keepends=True)]
SAID = [
    *LINES,
    *(line[:-5] for line in LINES[:9]),
    FIRST,
    NEXT,
    b"\n",
    b"\r\n",
    b"<inf> boot\r\n",
    FIRST + b"//8A\n",
    FIRST + b"AAA=\n",
    NEXT + b"AAAA\n",
    b"A" * 200,
    b"\0\xff",
]


@THOROUGH
@given(words(SAID, 8), st.binary(max_size=40))
def test_console_lines(said: list[bytes], rest: bytes) -> None:
    deframer, size, given_out = ConsoleDeframer(), 0, 0
    with counted() as steps:
        for piece in [*said, rest]:
            size += len(piece)
            found = deframer.feed(piece)
            given_out += sum(len(one if isinstance(one, bytes) else one.run) for one in found)
            assert deframer.kept <= 2 * MAX_LINE + MAX_PACKET
    assert given_out + deframer.kept <= size, "nothing is said twice"
    assert steps.count <= 100 * len(said) + 30 * size + 100


ANSWERED = [*WRITTEN, *(one[:-1] for one in WRITTEN), b"boot\r\n", b"\1", b"\xff\0", b"\x0b\0"]


@THOROUGH
@given(words(ANSWERED, 8))
def test_plain_answers(said: list[bytes]) -> None:
    deframer, size, given_out = PlainDeframer(), 0, 0
    with counted() as steps:
        for piece in said:
            size += len(piece)
            found = deframer.feed(piece)
            given_out += sum(len(one if isinstance(one, bytes) else one.run) for one in found)
            assert deframer.kept <= HEADER_SIZE + MAX_PAYLOAD + 2 * MAX_LINE
    assert given_out + deframer.kept == size, "every byte is told once"
    assert steps.count <= 100 * len(said) + 40 * size + 100


IMAGES = [
    make_image(),
    make_image(Recipe(flags=0x4, tlvs=((0x22, bytes(70)),))),
    make_image(Recipe(algorithm="sha512", protected=((0x50, bytes(4)),))),
    make_image(Recipe(flags=0x200, protected=((0x71, bytes(32)),))),
]
EDGES = [*range(32), 512, 831, *range(832, 850)]
EDITS = [(at, new) for at in EDGES for new in (b"", b"\0", b"\xff\xff", b"\x10\0\x20\0", bytes(40))]


@THOROUGH
@given(st.sampled_from(IMAGES), words(EDITS, 3), st.booleans(), st.integers(0, 900))
def test_an_image(start: bytes, edits: list[tuple[int, bytes]], is_put_in: bool, cut: int) -> None:
    data = start
    for at, new in edits:
        data = data[:at] + new + data[at + (0 if is_put_in else len(new)) :]
    data = data[: len(data) - cut] if cut < 100 else data
    code, image = "", None
    with counted() as steps:
        try:
            image = read_image(data)
        except FirmwareError as error:
            code = error.code
    assert steps.count <= 200 + len(data)
    if image is None:
        assert code in IMAGE_CODES
        return
    assert len(image.id.digest) in (32, 48, 64)
    assert data == start or image.is_encrypted or edits, "changed, and accepted"
    assert image.header_size + image.image_size < len(data)


IMAGE_CODES = {
    *("bad_image_header", "image_truncated", "bad_image_tlv", "image_padded"),
    *("image_hash_missing", "image_hash_mismatch"),
}


def some(rng: random.Random, known: Sequence[Any], most: int) -> list[Any]:
    return rng.choices(known, k=rng.randint(0, most))


# The same inputs without Hypothesis, whose choice of an example costs more than what it is tried on.
RANDOMLY: dict[Any, Callable[[random.Random], tuple[Any, ...]]] = {
    test_cbor: lambda rng: (rng.choice(CBOR_STARTS), some(rng, CBOR_PLACES, 5)),
    test_a_frame: lambda rng: (rng.choice(WRITTEN), some(rng, FRAME_PLACES, 2), rng.random() < 0.5),
    test_console_lines: lambda rng: (some(rng, SAID, 8), rng.randbytes(rng.randint(0, 40))),
    test_plain_answers: lambda rng: (some(rng, ANSWERED, 8),),
    test_an_image: lambda rng: (
        rng.choice(IMAGES),
        some(rng, EDITS, 3),
        rng.random() < 0.5,
        rng.randint(0, 900),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("parser", RANDOMLY, ids=lambda test: test.__name__)
def test_ten_thousand_inputs(parser: Any) -> None:
    rng = random.Random(parser.__name__)
    for number in range(10_000):
        arguments = RANDOMLY[parser](rng)
        try:
            parser.hypothesis.inner_test(*arguments)
        except Exception as error:
            error.add_note(f"input {number}: {arguments!r}")
            raise
