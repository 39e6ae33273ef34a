"""A firmware version, and the line that it belongs to."""

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

from gatewayd.errors import FirmwareError

# Topics and patch headers carry unsigned numbers; a varint of ten bytes is below 2**64.
LIMIT = 2**64

_NUMBER = "0|[1-9][0-9]{0,19}"
_LINE = re.compile(rf"({_NUMBER})\.({_NUMBER})")
_TEXT = re.compile(r"(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})")


class Line(NamedTuple):
    """A major.minor line: what a device follows, and within which updates are compatible by convention."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `M.m` as `Version.parse` reads a version. Raises FirmwareError `bad_version`."""
        match = _LINE.fullmatch(text)
        if not match:
            raise FirmwareError(f"{text[:80]!r} is not a line like 4.3", code="bad_version")
        Version.parse(f"{text}.0")
        return cls(*(int(part) for part in match.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


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
    def line(self) -> Line:
        """Its major.minor line."""
        return Line(self.major, self.minor)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"
