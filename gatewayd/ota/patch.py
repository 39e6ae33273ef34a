"""The patch version in front of the firmware in an OTA message.

Either one byte or a protobuf varint (seven bits a byte, lowest first, the high bit set on all but the last),
depending on the device's build. Non-minimal varints (`80 00` for 0) are accepted, as in protobuf: only the
number counts. A varint has at most ten bytes, and the number is below 2**64.
"""

from enum import StrEnum

from gatewayd.errors import FirmwareError
from gatewayd.ota import BytesLike
from gatewayd.ota.version import LIMIT

MAX_VARINT_BYTES = 10
_BYTE_LIMIT = 256


class PatchEncoding(StrEnum):
    """How the patch version is written; a setting of the device's build."""

    VARINT = "varint"
    BYTE = "byte"


def split_patch(message: BytesLike, encoding: PatchEncoding) -> tuple[int, memoryview]:
    """Return the patch version and what follows it, uncopied.

    Raises FirmwareError `patch_truncated`, `patch_overflow`, or `empty_firmware` if nothing follows.
    """
    view = memoryview(message).toreadonly()
    if not view:
        raise FirmwareError(
            "the message is empty, expected a patch version and firmware", code="patch_truncated"
        )
    patch, size = (view[0], 1) if encoding is PatchEncoding.BYTE else _read_varint(view)
    if size == len(view):
        raise FirmwareError(
            f"the message ends after its patch version {patch}, expected firmware after it",
            code="empty_firmware",
        )
    return patch, view[size:]


def encode_patch(patch: int, encoding: PatchEncoding) -> bytes:
    """Write a patch version, varints in their shortest form. Raises FirmwareError `patch_overflow`."""
    limit = _BYTE_LIMIT if encoding is PatchEncoding.BYTE else LIMIT
    if not 0 <= patch < limit:
        raise FirmwareError(
            f"patch version {patch} does not fit the {encoding} encoding, expected 0 to {limit - 1}",
            code="patch_overflow",
        )
    if encoding is PatchEncoding.BYTE:
        return bytes([patch])
    encoded = bytearray()
    while patch > 0x7F:  # noqa: PLR2004 - what seven bits hold
        encoded.append(patch & 0x7F | 0x80)
        patch >>= 7
    encoded.append(patch)
    return bytes(encoded)


def _read_varint(view: memoryview) -> tuple[int, int]:
    """Return the number and how many bytes it took."""
    patch = 0
    for at, byte in enumerate(view[:MAX_VARINT_BYTES]):
        patch |= (byte & 0x7F) << 7 * at
        if not byte & 0x80:
            if patch >= LIMIT:
                break
            return patch, at + 1
    else:
        if len(view) < MAX_VARINT_BYTES:
            raise FirmwareError(
                f"the message ends inside its patch version, after {len(view)} bytes", code="patch_truncated"
            )
    raise FirmwareError(
        f"the patch version {view[:MAX_VARINT_BYTES].hex()} is too large, expected at most"
        f" {MAX_VARINT_BYTES} bytes and less than 2^64",
        code="patch_overflow",
        hint="does the publisher write the patch as one byte? Then set patch_encoding: byte",
    )
