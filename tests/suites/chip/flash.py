"""A board's flash, as its layout.h says: images for it, and its bootloader's record."""

import random
import struct
from dataclasses import dataclass

from suites.chip.board import Board

# Magic, size, version: struct image_header_t.
_HEADER = struct.Struct("<II24s")
# What the words of the bootloader's record are: swap.c.
_SHA256, _STARTS, _KEEP, _FORTH = 1, 9, 12, 16
_BLANK = 0xFFFFFFFF


def image(board: Board, name: str, version: str, size: int = 0) -> bytes:
    """Return an image that the port's Makefile has built, as `version`, with random bytes up to `size`."""
    raw = bytearray((board.built / f"{name}.bin").read_bytes())
    filled = raw + random.Random(version).randbytes(max(0, size - len(raw)))
    header = _HEADER.pack(board.layout["HEADER_MAGIC"], len(filled), version.encode())
    at = board.layout["HEADER"]
    filled[at : at + _HEADER.size] = header
    return bytes(filled)


@dataclass(frozen=True, slots=True)
class Flash:
    """What is in a board's flash."""

    board: Board
    content: bytes

    @classmethod
    def fresh(cls, board: Board, running: bytes) -> "Flash":
        """Return that of a board that comes from the factory with an image."""
        content = bytearray(b"\xff" * board.layout["FLASH_SIZE"])
        boot = (board.built / "boot.bin").read_bytes()
        for name, part in (("BOOT", boot), ("IMAGE", running)):
            at = board.layout[name] - board.layout["BOOT"]
            content[at : at + len(part)] = part
        return cls(board, bytes(content))

    @property
    def running(self) -> tuple[str, bytes]:
        return self._image_at("IMAGE")

    @property
    def in_slot(self) -> tuple[str, bytes]:
        return self._image_at("SLOT")

    @property
    def record(self) -> "SwapRecord":
        at = self.board.layout["SWAP_STATE"] - self.board.layout["BOOT"]
        return SwapRecord.read(self.board, self.content[at : at + state_size(self.board)])

    def _image_at(self, name: str) -> tuple[str, bytes]:
        """Return an image's version and bytes; neither where there is none."""
        layout = self.board.layout
        at = layout[name] - layout["BOOT"]
        magic, size, version = _HEADER.unpack_from(self.content, at + layout["HEADER"])
        if magic != layout["HEADER_MAGIC"] or size > layout["SLOT_PAGES"] * layout["PAGE"]:
            return "", b""
        return version.rstrip(b"\0").decode(), self.content[at : at + size]


def state_size(board: Board) -> int:
    return 3 * board.layout["PAGE"]


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
    def read(cls, board: Board, content: bytes) -> "SwapRecord":
        words = struct.unpack(f"<{len(content) // 4}I", content)
        back = _FORTH + 3 * board.layout["SLOT_PAGES"]
        low, high = words[0] & 0xFFFF, words[0] >> 16
        pages = low if low ^ high == 0xFFFF else 0
        return cls(
            pages,
            struct.pack("<8I", *words[_SHA256 : _SHA256 + 8]),
            _marks(words[_STARTS:_KEEP]),
            words[_KEEP] != _BLANK,
            _marks(words[_FORTH : _FORTH + 3 * pages]),
            _marks(words[back : back + 3 * pages]),
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
