"""What the receiver keeps across a power cut (protocol.md, section 6).

Two areas of one or more erase blocks each. The newer one begins with a START record that has the complete
state at that time; every change is appended. When it is full, the *older* area is erased and becomes the
newer. A record is

    kind u8 | length u8 | body | crc u32     padded with FF to write units

and its CRC-32 is seeded with the area's generation: a remnant of an earlier use, or of a torn erase, is not a
valid record. A torn record is skipped unit by unit. Only blank cells are written.
"""

import struct
import zlib
from dataclasses import dataclass, replace
from enum import IntEnum

from gatewayd.simulator.flash import Flash, FlashReadError

_HEADER_SIZE = 2
_CRC_SIZE = 4
_NO_HASH = bytes(32)
_RECEIVING = struct.Struct("<32sI")
_PROGRESS = struct.Struct("<II")
_TRIED = struct.Struct("<32sB")
_START = struct.Struct("<I32sIIIB32sB32s")  # generation, then Memory


class Kind(IntEnum):
    """The kind of a record. Never 0xFF: that is blank flash."""

    START = 1
    RECEIVING = 2
    PROGRESS = 3
    FULL = 4
    TRIED = 5
    CONFIRMED = 6
    FORGOTTEN = 7


@dataclass(frozen=True, slots=True)
class Memory:
    """The state that the journal holds. An all-zero hash means "none"."""

    sha256: bytes = _NO_HASH
    size: int = 0
    offset: int = 0
    crc: int = 0
    full: bool = False
    tried_sha256: bytes = _NO_HASH
    tried_count: int = 0
    confirmed_sha256: bytes = _NO_HASH

    def has(self, sha256: bytes, size: int) -> bool:
        """Whether this is the image that is being received."""
        return self.size != 0 and (self.sha256, self.size) == (sha256, size)

    def tries_of(self, sha256: bytes) -> int:
        """Return how many times in a row this image was started."""
        return self.tried_count if self.tried_sha256 == sha256 else 0

    def after(self, kind: int, body: bytes) -> "Memory":
        """Return the state once a record has been appended."""
        if kind == Kind.RECEIVING:
            sha256, size = _RECEIVING.unpack(body)
            return replace(self, sha256=sha256, size=size, offset=0, crc=0, full=False)
        if kind == Kind.PROGRESS:
            offset, crc = _PROGRESS.unpack(body)
            return replace(self, offset=offset, crc=crc)
        if kind == Kind.FULL:
            return replace(self, offset=self.size, crc=struct.unpack("<I", body)[0], full=True)
        if kind == Kind.TRIED:
            sha256, count = _TRIED.unpack(body)
            return replace(self, tried_sha256=sha256, tried_count=count)
        if kind == Kind.CONFIRMED:
            return replace(self, confirmed_sha256=body)
        return replace(self, sha256=_NO_HASH, size=0, offset=0, crc=0, full=False)


class FlashJournal:
    """The journal at the beginning of `flash`. Creating one reads it and writes nothing."""

    def __init__(self, flash: Flash, *, area_size: int) -> None:
        self.memory = Memory()
        self._flash = flash
        self._area_size = area_size
        self._area = 1  # so that the first START goes to area 0
        self._position = area_size  # full: the first record begins an area
        self._generation = 0
        found = [(start[0], area) for area in (0, 1) if (start := self._read_start(area))]
        if found:
            self._generation, self._area = max(found)
            self._replay()

    def receiving(self, sha256: bytes, size: int) -> None:
        """Record that an image is begun, from zero."""
        self._append(Kind.RECEIVING, _RECEIVING.pack(sha256, size))

    def progress(self, offset: int, crc: int) -> None:
        """Record that `offset` bytes are written; `crc` covers all of them, read back."""
        self._append(Kind.PROGRESS, _PROGRESS.pack(offset, crc))

    def full(self, crc: int) -> None:
        """Record that the whole image is written and was read back."""
        self._append(Kind.FULL, struct.pack("<I", crc))

    def tried(self, sha256: bytes, count: int) -> None:
        """Record that the image is about to be started for the `count`-th time in a row."""
        self._append(Kind.TRIED, _TRIED.pack(sha256, count))

    def confirmed(self, sha256: bytes) -> None:
        """Record that the running image was confirmed."""
        self._append(Kind.CONFIRMED, sha256)

    def forget(self) -> None:
        """Record that the slot no longer holds any part of an image."""
        self._append(Kind.FORGOTTEN, b"")

    def _append(self, kind: Kind, body: bytes) -> None:
        after = self.memory.after(kind, body)
        record = self._encode(kind, body, self._generation)
        if len(record) > self._area_size - self._position:
            self._begin_area(after)
        else:
            address = self._area * self._area_size + self._position
            self._position += len(record)
            self._flash.write(address, record)
        self.memory = after

    def _begin_area(self, memory: Memory) -> None:
        """Erase the older area and make it the newer one; until its START is complete the other counts."""
        older = 1 - self._area
        for address in range(older * self._area_size, (older + 1) * self._area_size, self._flash.erase_block):
            self._flash.erase(address)
        generation = self._generation + 1
        record = self._encode(Kind.START, _START.pack(generation, *_fields(memory)), generation)
        self._flash.write(older * self._area_size, record)
        self._area, self._generation, self._position = older, generation, len(record)

    def _replay(self) -> None:
        units = self._read_units(self._area)
        start = self._read_start(self._area)
        assert start is not None  # noqa: S101 - the caller found it
        self.memory = start[1]
        unit = self._flash.write_unit
        content = b"".join(u or b"\0" * unit for u in units)
        position = end = self._padded(_HEADER_SIZE + _START.size + _CRC_SIZE)
        while position < len(content):
            record = _decode(content[position:], self._generation)
            if record is None:
                if content[position : position + unit].count(0xFF) != unit:
                    end = position + unit
                position += unit
                continue
            kind, body = record
            self.memory = self.memory.after(kind, body)
            position = end = position + self._padded(_HEADER_SIZE + len(body) + _CRC_SIZE)
        self._position = end

    def _read_start(self, area: int) -> tuple[int, Memory] | None:
        """Generation and memory of an area's START record, if it has one."""
        content = b"".join(u or b"\0" * self._flash.write_unit for u in self._read_units(area))
        if content[:2] != bytes([Kind.START, _START.size]):
            return None
        generation = int.from_bytes(content[2:6], "little")
        record = _decode(content, generation)
        return None if record is None else (generation, Memory(*_START.unpack(record[1])[1:]))

    def _read_units(self, area: int) -> list[bytes | None]:
        """The units of an area; None for one that cannot be read."""
        first = area * self._area_size
        return [
            self._read(address) for address in range(first, first + self._area_size, self._flash.write_unit)
        ]

    def _read(self, address: int) -> bytes | None:
        try:
            return self._flash.read(address, self._flash.write_unit)
        except FlashReadError:
            return None

    def _encode(self, kind: Kind, body: bytes, generation: int) -> bytes:
        record = bytes([kind, len(body)]) + body
        record += zlib.crc32(record, generation).to_bytes(_CRC_SIZE, "little")
        return record.ljust(self._padded(len(record)), b"\xff")

    def _padded(self, size: int) -> int:
        return -(-size // self._flash.write_unit) * self._flash.write_unit


def _fields(memory: Memory) -> tuple[bytes | int, ...]:
    return (
        memory.sha256,
        memory.size,
        memory.offset,
        memory.crc,
        memory.full,
        memory.tried_sha256,
        memory.tried_count,
        memory.confirmed_sha256,
    )


def _decode(content: bytes, generation: int) -> tuple[int, bytes] | None:
    """Kind and body of the record at the beginning of `content`, if there is a valid one."""
    if len(content) < _HEADER_SIZE or content[1] + _CRC_SIZE > len(content) - _HEADER_SIZE:
        return None
    end = _HEADER_SIZE + content[1]
    if zlib.crc32(content[:end], generation) != int.from_bytes(content[end : end + _CRC_SIZE], "little"):
        return None
    return content[0], content[_HEADER_SIZE:end]
