"""The chip's flash, as device/ports/microbit lays it out: images for it, and its bootloader's record."""

import random
import re
import struct
from dataclasses import dataclass

from lab.tree import ROOT

PORT = ROOT / "device" / "ports" / "microbit"
BUILT = PORT / "build" / "lab"
FLASH_SIZE = 0x40000
_DEFINE = re.compile(r"^#define (\w+) (0x[0-9A-Fa-f]+|\d+)\b", re.MULTILINE)
LAYOUT = {name: int(value, 0) for name, value in _DEFINE.findall((PORT / "layout.h").read_text())}
_PAGE = LAYOUT["PAGE"]
# Magic, size, version: struct image_header_t.
_HEADER = struct.Struct("<II24s")
# What the words of the bootloader's record are: swap.c.
_SHA256, _STARTS, _KEEP, _FORTH = 1, 9, 12, 16
_BACK = _FORTH + 3 * LAYOUT["SLOT_PAGES"]
STATE_SIZE = 3 * _PAGE
_BLANK = 0xFFFFFFFF


def image(name: str, version: str, size: int = 0) -> bytes:
    """Return an image that the port's Makefile has built, as `version`, with random bytes up to `size`."""
    raw = bytearray((BUILT / f"{name}.bin").read_bytes())
    filled = raw + random.Random(version).randbytes(max(0, size - len(raw)))
    header = _HEADER.pack(LAYOUT["HEADER_MAGIC"], len(filled), version.encode())
    filled[LAYOUT["HEADER"] : LAYOUT["HEADER"] + _HEADER.size] = header
    return bytes(filled)


def fresh(running: bytes) -> bytes:
    """Return the flash of a chip that comes from the factory with an image."""
    flash = bytearray(b"\xff" * FLASH_SIZE)
    boot = (BUILT / "boot.bin").read_bytes()
    for address, content in ((LAYOUT["BOOT"], boot), (LAYOUT["IMAGE"], running)):
        flash[address : address + len(content)] = content
    return bytes(flash)


def image_at(flash: bytes, address: int) -> tuple[str, bytes]:
    """Return an image's version and bytes; neither where there is none."""
    magic, size, version = _HEADER.unpack_from(flash, address + LAYOUT["HEADER"])
    if magic != LAYOUT["HEADER_MAGIC"] or size > LAYOUT["SLOT_PAGES"] * _PAGE:
        return "", b""
    return version.rstrip(b"\0").decode(), flash[address : address + size]


@dataclass(frozen=True, slots=True)
class SwapRecord:
    """What the bootloader has noted of the image tried last. `pages` is 0 where there was none."""

    pages: int
    sha256: bytes
    starts: int
    is_kept: bool
    forth: int
    back: int

    @classmethod
    def of(cls, flash: bytes) -> "SwapRecord":
        return cls.read(flash[LAYOUT["SWAP_STATE"] : LAYOUT["SWAP_STATE"] + STATE_SIZE])

    @classmethod
    def read(cls, pages_of_record: bytes) -> "SwapRecord":
        words = struct.unpack(f"<{STATE_SIZE // 4}I", pages_of_record)
        low, high = words[0] & 0xFFFF, words[0] >> 16
        pages = low if low ^ high == 0xFFFF else 0
        return cls(
            pages,
            struct.pack("<8I", *words[_SHA256 : _SHA256 + 8]),
            _marks(words[_STARTS:_KEEP]),
            words[_KEEP] != _BLANK,
            _marks(words[_FORTH : _FORTH + 3 * pages]),
            _marks(words[_BACK : _BACK + 3 * pages]),
        )

    @property
    def steps(self) -> int:
        return self.forth + self.back

    @property
    def is_swapping(self) -> bool:
        """Whether a swap has begun and is not complete."""
        return any(0 < done < 3 * self.pages for done in (self.forth, self.back))

    @property
    def has_reverted(self) -> bool:
        return self.pages > 0 and self.back == 3 * self.pages


def _marks(words: tuple[int, ...]) -> int:
    return sum(word != _BLANK for word in words)
