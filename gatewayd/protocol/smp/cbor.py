"""CBOR (RFC 8949), the part of it that SMP uses, and nothing of what makes a decoder dangerous.

Taken: integers of 64 bits, floats, byte and text strings of known length, arrays and maps of known or open
length, false, true, null. Refused: tags (a general decoder builds regular expressions, dates and cyclic lists
from them), strings of open length, keys that are containers or occur twice, bytes behind the value. Depth and
the number of values are bounded; every length is compared with the bytes left before it is used.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from gatewayd.protocol.smp.errors import MalformedError

Value: TypeAlias = "bool | int | float | bytes | str | Sequence[Value] | Mapping[Key, Value] | None"
Key: TypeAlias = int | str | bytes | bool | None

MAX_DEPTH = 8  # an image list is four deep
MAX_VALUES = 2048  # the longest answer known, of two images in four slots, has about 60

_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_OPEN = 31
_BREAK = 0xFF
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE_VALUES: dict[int, bool | None] = {20: False, 21: True, 22: None, 23: None}
_LARGEST = (1 << 64) - 1


def encode(value: Any) -> bytes:
    """Return the shortest encoding; maps keep their order. Raises ValueError for what has none here."""
    match value:
        case bool() | None:
            encoded = {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
        case int():
            encoded = _head(_UINT, value) if value >= 0 else _head(_NINT, -1 - value)
        case float():
            encoded = b"\xfb" + struct.pack(">d", value)
        case bytes():
            encoded = _head(_BYTES, len(value)) + value
        case str():
            text = value.encode()
            encoded = _head(_TEXT, len(text)) + text
        case Mapping():
            pairs = (encode(key) + encode(item) for key, item in value.items())
            encoded = _head(_MAP, len(value)) + b"".join(pairs)
        case Sequence():
            encoded = _head(_ARRAY, len(value)) + b"".join(map(encode, value))
        case _:
            raise ValueError(f"no encoding for {type(value).__name__}")
    return encoded


def decode(data: bytes) -> Value:
    """Return the one value that the bytes are. Raises MalformedError."""
    decoder = _Decoder(data)
    value = decoder.value(0)
    if decoder.left:
        raise MalformedError(f"{decoder.left} bytes follow the CBOR value")
    return value


def head_size(number: int) -> int:
    """Return how many bytes a number, or a string's length, takes."""
    return len(_head(_UINT, number))


def _head(kind: int, number: int) -> bytes:
    if number < 24:  # noqa: PLR2004 - RFC 8949, 3: it fits the first byte
        return bytes((kind << 5 | number,))
    for argument, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes((kind << 5 | argument,)) + number.to_bytes(size, "big")
    raise ValueError(f"{number} does not fit 64 bits")


class _Decoder:
    """Reads `data` from its beginning. Each method consumes what it returns."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._values = 0

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self._at

    def value(self, depth: int) -> Value:
        """Read one value. Raises MalformedError."""
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise MalformedError(f"CBOR of more than {MAX_DEPTH} levels or {MAX_VALUES} values")
        first = self._take(1)[0]
        kind, argument = first >> 5, first & 0x1F
        match kind:
            case _ if kind == _SIMPLE:
                return self._simple(argument)
            case _ if kind == _TAG:
                raise MalformedError("CBOR with a tag")
            case _ if kind == _ARRAY:
                return [self.value(depth + 1) for _ in self._items(argument, 1)]
            case _ if kind == _MAP:
                return self._map(argument, depth + 1)
        number = self._number(argument)
        if kind in (_BYTES, _TEXT):
            content = self._take(number)
            return content if kind == _BYTES else _text(content)
        return number if kind == _UINT else -1 - number

    def _map(self, argument: int, depth: int) -> Mapping[Key, Value]:
        found: dict[Key, Value] = {}
        for _ in self._items(argument, 2):
            key = self.value(depth)
            if not isinstance(key, int | str | bytes | None) or key in found:
                raise MalformedError("a CBOR map with a key that is a container or occurs twice")
            found[key] = self.value(depth)
        return found

    def _items(self, argument: int, values_each: int) -> "_Items":
        if argument == _OPEN:
            return _Items(self, None)
        number = self._number(argument)
        if number * values_each > self.left:
            raise MalformedError(f"a CBOR container of {number} items in {self.left} bytes")
        return _Items(self, number)

    def ends_here(self) -> bool:
        """Whether an open container ends; its end is read."""
        if not self.left:
            raise MalformedError("a CBOR container without an end")
        ends = self._data[self._at] == _BREAK
        self._at += ends
        return ends

    def _simple(self, argument: int) -> float | bool | None:
        if argument in _SIMPLE_VALUES:
            return _SIMPLE_VALUES[argument]
        layout = _FLOATS.get(argument)
        if layout is None:
            raise MalformedError(f"CBOR with the unassigned simple value {argument}")
        (number,) = struct.unpack(layout, self._take(struct.calcsize(layout)))
        return float(number)

    def _number(self, argument: int) -> int:
        if argument < 24:  # noqa: PLR2004 - see _head
            return argument
        if argument > 27:  # noqa: PLR2004 - 28 to 30 are reserved, 31 is a string of open length
            raise MalformedError(f"CBOR with a length of kind {argument}")
        return int.from_bytes(self._take(1 << argument - 24), "big")

    def _take(self, size: int) -> bytes:
        if size > self.left:
            raise MalformedError(f"CBOR that ends within a value: {size} bytes expected, {self.left} left")
        self._at += size
        return self._data[self._at - size : self._at]


class _Items:
    """Counts a container's items, or finds its end."""

    def __init__(self, decoder: _Decoder, number: int | None) -> None:
        self._decoder = decoder
        self._left = math.inf if number is None else number

    def __iter__(self) -> "_Items":
        return self

    def __next__(self) -> None:
        if self._left == math.inf:
            if self._decoder.ends_here():
                raise StopIteration
        elif self._left == 0:
            raise StopIteration
        self._left -= 1


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise MalformedError("CBOR with text that is not UTF-8") from None
