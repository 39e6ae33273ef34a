"""SMP frames: eight bytes of header, then one CBOR map.

    op and version | flags | length u16 | group u16 | sequence | command        big-endian

Version 2 (written as 1 in the header) lets a device say which group an error belongs to; version 1 reports
all of those as "unknown". We send version 2 and accept both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from types import MappingProxyType
from typing import Any

from gatewayd.protocol.smp import cbor
from gatewayd.protocol.smp.errors import MalformedError

HEADER = Struct(">BBHHBB")
HEADER_SIZE = HEADER.size
MAX_PAYLOAD = 8192  # the longest answer accepted: four times the largest buffer seen
_VERSION_SHIFT, _VERSION_MASK, _OP_MASK = 3, 0x3, 0x7
_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Op(IntEnum):
    """The kind of a frame."""

    READ = 0
    READ_ANSWER = 1
    WRITE = 2
    WRITE_ANSWER = 3


class Group(IntEnum):
    """The groups of commands used here."""

    OS = 0
    IMAGE = 1


class OsCommand(IntEnum):
    """Commands of Group.OS."""

    ECHO = 0
    RESET = 5
    PARAMS = 6
    INFO = 7
    BOOTLOADER_INFO = 8


class ImageCommand(IntEnum):
    """Commands of Group.IMAGE."""

    STATE = 0
    UPLOAD = 1
    SLOT_INFO = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """One request or answer; `payload` has text keys as far as SMP defines them."""

    op: Op
    group: int
    command: int
    sequence: int
    payload: Mapping[Any, Any] = field(default_factory=lambda: _EMPTY)
    version: int = 1
    flags: int = 0

    @property
    def is_answer(self) -> bool:
        """Whether it comes from a device."""
        return self.op in (Op.READ_ANSWER, Op.WRITE_ANSWER)

    def to_bytes(self) -> bytes:
        """Return header and CBOR."""
        body = cbor.encode(self.payload)
        first = self.version << _VERSION_SHIFT | self.op
        return HEADER.pack(first, self.flags, len(body), self.group, self.sequence, self.command) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "Frame":
        """Read a whole frame. Raises MalformedError."""
        if len(data) < HEADER_SIZE:
            raise MalformedError(f"an SMP frame of {len(data)} bytes, expected at least {HEADER_SIZE}")
        first, flags, length, group, sequence, command = HEADER.unpack_from(data)
        if length != len(data) - HEADER_SIZE:
            raise MalformedError(f"an SMP header that says {length} bytes, with {len(data) - HEADER_SIZE}")
        if first & _OP_MASK > max(Op) or first >> _VERSION_SHIFT > _VERSION_MASK:
            raise MalformedError(f"an SMP header that begins with {first:#04x}")
        payload = cbor.decode(data[HEADER_SIZE:]) if length else {}
        if not isinstance(payload, Mapping):
            raise MalformedError("an SMP frame whose content is not a map")
        op, version = Op(first & _OP_MASK), first >> _VERSION_SHIFT & _VERSION_MASK
        return cls(op, group, command, sequence, payload, version, flags)
