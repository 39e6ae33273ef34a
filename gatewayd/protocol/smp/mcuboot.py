"""Reads files made for MCUboot: version, sizes, hash. Pure; nothing is used before it is checked.

    header (32 bytes, padded to header size) | image | protected TLVs | TLVs

Each TLV area begins with a magic and its size. One TLV is the hash of everything before the unprotected area,
which a device lists and a bootloader checks. In an encrypted image it covers the plain bytes, which only the
device can decrypt, so it cannot be verified here. A compressed image runs under another hash, that of its
unpacked form.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct

from gatewayd import image_magics
from gatewayd.errors import FirmwareError
from gatewayd.protocol.image import ImageId

HEADER = Struct("<IIHHIIBBHII")
TLV_HEADER = Struct("<HH")
_PROTECTED_MAGIC, PLAIN_MAGIC = 0x6908, 0x6907
_ENCRYPTED = 0x4 | 0x8  # AES-128, AES-256
_COMPRESSED = 0x200 | 0x400  # LZMA1, LZMA2
_NOT_BOOTABLE = 0x10
_UNPACKED_HASH = 0x71
HASH_TLV = 0x10
_HASHES: dict[int, tuple[str, Callable[[bytes | memoryview], "hashlib._Hash"]]] = {
    HASH_TLV: ("sha256", hashlib.sha256),
    0x11: ("sha384", hashlib.sha384),
    0x12: ("sha512", hashlib.sha512),
}
# By a digest's length. Unlike a file's SHA-256 it covers only what MCUboot verifies, without signatures.
_NAMES = {32: "mcuboot-sha256", 48: "mcuboot-sha384", 64: "mcuboot-sha512"}
_SIGNATURES = frozenset({0x20, 0x21, 0x22, 0x23, 0x24, 0x25})


def image_id(digest: bytes) -> ImageId:
    """Return the id for MCUboot's hash; its length gives the algorithm. Raises KeyError for other lengths."""
    return ImageId(_NAMES[len(digest)], digest)


@dataclass(frozen=True, slots=True)
class McubootImage:
    """The facts in a file; sizes in bytes.

    Attributes:
        version: major.minor.revision.
        build: the version's fourth number, which does not count in comparisons.
        id: as the device lists it while the image waits in its slot.
        running_id: as the device lists it once it runs the image.
        is_signed: whether it has a signature for the device; not verified here.
    """

    version: str
    build: int
    header_size: int
    image_size: int
    id: ImageId
    running_id: ImageId
    is_encrypted: bool
    is_compressed: bool
    is_signed: bool


def is_mcuboot_image(content: bytes | memoryview) -> bool:
    """Whether it begins as an MCUboot image does."""
    return bytes(content[:4]) == image_magics.MCUBOOT


def read_image(content: bytes | memoryview, *, verifies: bool = True) -> McubootImage:
    """Read a whole file, and verify its hash unless it is encrypted, or `verifies` is False.

    Raises FirmwareError `bad_image_header`, `image_truncated`, `bad_image_tlv`, `image_padded`,
    `image_hash_missing`, `image_hash_mismatch`.
    """
    content = memoryview(content)
    header = _Header.read(content)
    tlvs, ends_at = _tlvs(content, header)
    if ends_at != len(content):
        raise FirmwareError(
            f"{len(content) - ends_at} bytes follow the image's {ends_at}",
            code="image_padded",
            hint="publish what imgtool makes without --pad and --confirm: padding marks the image as tested",
        )
    hash_type, value = _image_hash(tlvs)
    is_encrypted = bool(header.flags & _ENCRYPTED)
    name, algorithm = _HASHES[hash_type]
    if verifies and not is_encrypted and algorithm(content[: header.protected_end]).digest() != value:
        raise FirmwareError(
            f"the image's {name} is not the one in its TLV",
            code="image_hash_mismatch",
            hint="the file is damaged; build or download it again",
        )
    waiting = image_id(value)
    is_compressed = bool(header.flags & _COMPRESSED)
    return McubootImage(
        version=header.version,
        build=header.build,
        header_size=header.header_size,
        image_size=header.image_size,
        id=waiting,
        running_id=_unpacked_id(tlvs) if is_compressed else waiting,
        is_encrypted=is_encrypted,
        is_compressed=is_compressed,
        is_signed=any(kind in _SIGNATURES for kind, _ in tlvs),
    )


@dataclass(frozen=True, slots=True)
class _Header:
    header_size: int
    protected_size: int
    image_size: int
    flags: int
    version: str
    build: int

    @property
    def protected_end(self) -> int:
        """The end of what the hash covers."""
        return self.header_size + self.image_size + self.protected_size

    @classmethod
    def read(cls, content: memoryview) -> "_Header":
        if not is_mcuboot_image(content):
            raise FirmwareError(
                f"the image begins with {bytes(content[:4]).hex()},"
                f" MCUboot's with {image_magics.MCUBOOT.hex()}",
                code="bad_image_header",
                hint="publish the signed file, which imgtool or the build makes (zephyr.signed.bin)",
            )
        if len(content) < HEADER.size:
            raise FirmwareError(
                f"an MCUboot image of {len(content)} bytes, shorter than its header", code="image_truncated"
            )
        _, _, header_size, protected, size, flags, major, minor, revision, build, _ = HEADER.unpack_from(
            content
        )
        header = cls(header_size, protected, size, flags, f"{major}.{minor}.{revision}", build)
        if header_size < HEADER.size or not size or flags & _NOT_BOOTABLE:
            raise FirmwareError(
                f"an MCUboot header with header size {header_size}, image size {size}, flags {flags:#x}",
                code="bad_image_header",
            )
        if header.protected_end + TLV_HEADER.size > len(content):
            raise FirmwareError(
                f"the image has {len(content)} bytes, its header wants {header.protected_end} and TLVs",
                code="image_truncated",
                hint="the file is damaged; build or download it again",
            )
        return header


def _tlvs(content: memoryview, header: _Header) -> tuple[list[tuple[int, bytes]], int]:
    """Return the entries of both areas, and where the last one ends."""
    at = header.protected_end - header.protected_size
    entries: list[tuple[int, bytes]] = []
    if header.protected_size:
        end = _area_end(content, at, _PROTECTED_MAGIC)
        if end != header.protected_end:
            raise _bad_tlv(f"a protected area of {end - at} bytes, the header says {header.protected_size}")
        entries += _entries(content, at + TLV_HEADER.size, end)
        at = end
    end = _area_end(content, at, PLAIN_MAGIC)
    entries += _entries(content, at + TLV_HEADER.size, end)
    return entries, end


def _area_end(content: memoryview, at: int, magic: int) -> int:
    if at + TLV_HEADER.size > len(content):
        raise _bad_tlv(f"an area at {at} of {len(content)} bytes")
    found, size = TLV_HEADER.unpack_from(content, at)
    if found != magic:
        raise _bad_tlv(f"an area that begins with {found:#06x}, expected {magic:#06x}")
    if size < TLV_HEADER.size:
        raise _bad_tlv(f"an area of {size} bytes")
    if at + size > len(content):
        raise FirmwareError(
            f"the image has {len(content)} bytes, its TLV area ends at {at + size}",
            code="image_truncated",
            hint="the file is damaged; build or download it again",
        )
    return int(at + size)


def _entries(content: memoryview, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while at < end:
        if at + TLV_HEADER.size > end:
            raise _bad_tlv(f"{end - at} bytes behind the last entry")
        kind, size = TLV_HEADER.unpack_from(content, at)
        at += TLV_HEADER.size
        if at + size > end:
            raise _bad_tlv(f"an entry of {size} bytes with {end - at} left")
        yield kind, bytes(content[at : at + size])
        at += size


def _image_hash(tlvs: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    found = [(kind, value) for kind, value in tlvs if kind in _HASHES]
    if not found:
        raise FirmwareError(
            "the image has no hash TLV (SHA-256, 384 or 512)",
            code="image_hash_missing",
            hint="sign it with imgtool; a key is not needed for that",
        )
    if len(found) > 1:
        raise _bad_tlv(f"{len(found)} hashes")
    kind, value = found[0]
    expected = _HASHES[kind][1](b"").digest_size
    if len(value) != expected:
        raise _bad_tlv(f"a hash of {len(value)} bytes, expected {expected}")
    return kind, value


def _unpacked_id(tlvs: list[tuple[int, bytes]]) -> ImageId:
    values = [value for kind, value in tlvs if kind == _UNPACKED_HASH]
    if len(values) != 1 or len(values[0]) not in _NAMES:
        raise _bad_tlv("a compressed image without the hash of its unpacked form")
    return image_id(values[0])


def _bad_tlv(what: str) -> FirmwareError:
    return FirmwareError(
        f"MCUboot TLVs that cannot be read: {what}",
        code="bad_image_tlv",
        hint="the file is damaged; build or download it again",
    )
