"""The image that a new virtual device runs: MCUboot's header, a few bytes and their hash, unsigned."""

import hashlib
import struct

from gatewayd.image_magics import MCUBOOT
from gatewayd.ota.version import Version
from gatewayd.protocol.smp.mcuboot import HASH_TLV, HEADER, PLAIN_MAGIC, TLV_HEADER

_HEADER_SIZE = 512  # what Zephyr's builds have
_PAYLOAD = b"a virtual device's first firmware\n" * 16


def first_image(version: Version) -> bytes:
    """Return an image of a version; the same each time."""
    (magic,) = struct.unpack("<I", MCUBOOT)
    numbers = version.major, version.minor, version.patch
    header = HEADER.pack(magic, 0, _HEADER_SIZE, 0, len(_PAYLOAD), 0, *numbers, 0, 0)
    hashed = header.ljust(_HEADER_SIZE, b"\xff") + _PAYLOAD
    digest = hashlib.sha256(hashed).digest()
    entry = TLV_HEADER.pack(HASH_TLV, len(digest)) + digest
    return hashed + TLV_HEADER.pack(PLAIN_MAGIC, TLV_HEADER.size + len(entry)) + entry
