"""MCUboot images for tests, made by hand so that each field can be wrong."""

import hashlib
import struct
from dataclasses import dataclass

from gatewayd.protocol.smp.mcuboot import HEADER

HASHES = {"sha256": 0x10, "sha384": 0x11, "sha512": 0x12}
HEADER_SIZE = 512
MAGIC = 0x96F3B83D


@dataclass(frozen=True)
class Recipe:
    """What goes into an image; `tlvs` stand behind the hash."""

    version: tuple[int, int, int, int] = (1, 2, 3, 0)
    payload: bytes = b"firmware" * 40
    algorithm: str = "sha256"
    flags: int = 0
    protected: tuple[tuple[int, bytes], ...] = ()
    tlvs: tuple[tuple[int, bytes], ...] = ()
    has_hash: bool = True


def make_image(recipe: Recipe = Recipe()) -> bytes:
    """Return the whole file."""
    protected = _area(0x6908, recipe.protected) if recipe.protected else b""
    header = HEADER.pack(
        MAGIC, 0, HEADER_SIZE, len(protected), len(recipe.payload), recipe.flags, *recipe.version, 0
    )
    hashed = header.ljust(HEADER_SIZE, b"\xff") + recipe.payload + protected
    digest = hashlib.new(recipe.algorithm, hashed).digest()
    own = ((HASHES[recipe.algorithm], digest),) if recipe.has_hash else ()
    return hashed + _area(0x6907, (*own, *recipe.tlvs))


def _area(magic: int, entries: tuple[tuple[int, bytes], ...]) -> bytes:
    body = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in entries)
    return struct.pack("<HH", magic, len(body) + 4) + body
