"""Tag, length, value: the bodies of HELLO, INFO, OFFER, CONFIRM and CONFIRMED (docs/protocol.md, "TLV")."""

from collections.abc import Collection, Iterator, Mapping
from enum import IntEnum
from typing import TypeAlias

from gatewayd.protocol.rcp.codes import FrameError, RcpCode

Value: TypeAlias = int | str | bytes | bool

HEADER_SIZE = 2  # tag and length
CRITICAL = 0x80  # unknown tags from here on must not be ignored


class Tag(IntEnum):
    """The tags of version 1."""

    NONCE = 0x01
    PROTOCOL_MIN = 0x02
    PROTOCOL_MAX = 0x03
    GATEWAY_ID = 0x04
    APP_ID = 0x10
    HARDWARE_ID = 0x11
    DEVICE_ID = 0x12
    VERSION = 0x13
    BOOT_ID = 0x14
    IMAGE_STATE = 0x15
    MAX_FRAME = 0x16
    WINDOW = 0x17
    RX_RING = 0x18
    SLOT_ADDRESS = 0x19
    SLOT_SIZE = 0x1A
    ERASE_BLOCK = 0x1B
    WRITE_UNIT = 0x1C
    BOOT_TIME_S = 0x1D
    FEATURES = 0x1E
    RUNNING_SHA256 = 0x1F
    TRIED_SHA256 = 0x20
    TRIED_COUNT = 0x21
    IMAGE_SHA256 = 0x30
    IMAGE_SIZE = 0x31
    IMAGE_VERSION = 0x32
    ENCODING = 0x33
    FROM_ZERO = 0x34
    SECOND_TRY = 0x35


_NUMBER_SIZES = {
    Tag.NONCE: 4,
    Tag.PROTOCOL_MIN: 1,
    Tag.PROTOCOL_MAX: 1,
    Tag.BOOT_ID: 4,
    Tag.IMAGE_STATE: 1,
    Tag.MAX_FRAME: 2,
    Tag.WINDOW: 4,
    Tag.RX_RING: 4,
    Tag.SLOT_ADDRESS: 4,
    Tag.SLOT_SIZE: 4,
    Tag.ERASE_BLOCK: 4,
    Tag.WRITE_UNIT: 2,
    Tag.BOOT_TIME_S: 2,
    Tag.FEATURES: 4,
    Tag.TRIED_COUNT: 1,
    Tag.IMAGE_SIZE: 4,
    Tag.ENCODING: 1,
}
_TEXT_SIZES = {
    Tag.GATEWAY_ID: (1, 64),
    Tag.APP_ID: (1, 64),
    Tag.HARDWARE_ID: (1, 64),
    Tag.DEVICE_ID: (1, 32),
    Tag.VERSION: (5, 62),
    Tag.IMAGE_VERSION: (5, 62),
}
_DIGESTS = {Tag.RUNNING_SHA256, Tag.TRIED_SHA256, Tag.IMAGE_SHA256}
DIGEST_SIZE = 32


def pack(values: Mapping[Tag, Value | None]) -> bytes:
    """Write tags in ascending order; None and False mean absent."""
    out = bytearray()
    for tag in sorted(values):
        value = values[tag]
        if value is None or value is False:
            continue
        encoded = _encode(tag, value)
        out += bytes((tag, len(encoded))) + encoded
    return bytes(out)


def unpack(body: bytes, required: Collection[Tag], optional: Collection[Tag] = ()) -> dict[Tag, Value]:
    """Read a body. Raises FrameError on what docs/protocol.md calls malformed, and on critical tags."""
    known: dict[int, Tag] = {tag.value: tag for tag in (*required, *optional)}
    values: dict[Tag, Value] = {}
    for number, raw in _split(body):
        tag = known.get(number)
        if tag is not None:
            values[tag] = _decode(tag, raw)
        elif number >= CRITICAL:
            raise FrameError(f"unknown critical tag {number:#04x}", RcpCode.UNKNOWN_CRITICAL_TAG)
    missing = [tag.name.lower() for tag in required if tag not in values]
    if missing:
        raise FrameError(f"without {', '.join(missing)}")
    return values


def _split(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tags and raw values from the front; the first fault is the one reported."""
    seen: set[int] = set()
    at, size = 0, len(body)
    while at < size:
        if size - at < HEADER_SIZE:
            raise FrameError(f"a single byte is left at {at} of {size}")
        tag, length = body[at], body[at + 1]
        at += HEADER_SIZE
        if length > size - at:
            raise FrameError(f"tag {tag:#04x} says {length} bytes, {size - at} are left")
        if tag in seen:
            raise FrameError(f"tag {tag:#04x} occurs twice")
        seen.add(tag)
        yield tag, body[at : at + length]
        at += length


def _encode(tag: Tag, value: Value) -> bytes:
    if tag in _NUMBER_SIZES and isinstance(value, int):
        return value.to_bytes(_NUMBER_SIZES[tag], "little")
    if isinstance(value, str):
        return value.encode()
    return b"" if isinstance(value, bool | int) else value


def _decode(tag: Tag, raw: bytes) -> Value:
    if tag in _NUMBER_SIZES:
        _check_size(tag, raw, _NUMBER_SIZES[tag], _NUMBER_SIZES[tag])
        return int.from_bytes(raw, "little")
    if tag in _TEXT_SIZES:
        _check_size(tag, raw, *_TEXT_SIZES[tag])
        return _text(tag, raw)
    size = DIGEST_SIZE if tag in _DIGESTS else 0
    _check_size(tag, raw, size, size)
    return raw or True


def _check_size(tag: Tag, raw: bytes, low: int, high: int) -> None:
    if not low <= len(raw) <= high:
        expected = f"{low}" if low == high else f"{low} to {high}"
        raise FrameError(f"{tag.name.lower()} has {len(raw)} bytes, expected {expected}")


def _text(tag: Tag, raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise FrameError(f"{tag.name.lower()} is not printable UTF-8: {raw!r}")
    return text
