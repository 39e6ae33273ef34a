"""A firmware version, and the two predicates that say whether one may replace another."""

import re
from dataclasses import dataclass
from typing import Self

from gatewayd.errors import FirmwareError

# Topics and patch headers carry unsigned numbers; a varint of ten bytes is below 2**64.
LIMIT = 2**64

_TEXT = re.compile(r"(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """`major.minor.patch`, each 0 to 2**64 - 1. Ordered as numbers."""

    major: int
    minor: int
    patch: int

    def __post_init__(self) -> None:
        if not all(0 <= part < LIMIT for part in (self.major, self.minor, self.patch)):
            raise FirmwareError(f"version {self} has a part outside 0..2^64-1", code="bad_version")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `M.m.p`: decimal, no leading zeros, nothing around it. Raises FirmwareError `bad_version`."""
        match = _TEXT.fullmatch(text)
        if not match:
            raise FirmwareError(f"{text[:80]!r} is not a version like 4.3.1", code="bad_version")
        return cls(*(int(part) for part in match.groups()))

    @property
    def line(self) -> tuple[int, int]:
        """The major.minor line, within which updates are compatible."""
        return self.major, self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def is_same_line(installed: Version, offered: Version) -> bool:
    """Whether both share major.minor, so that one may replace the other at all."""
    return installed.line == offered.line


def is_newer(installed: Version, offered: Version) -> bool:
    """Whether `offered` has a strictly higher patch; an equal one would be installed at each reconnect."""
    return offered.patch > installed.patch
