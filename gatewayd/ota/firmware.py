"""Read and check a whole OTA message in one call."""

from dataclasses import dataclass, field

from gatewayd.errors import FirmwareError
from gatewayd.ota import BytesLike
from gatewayd.ota.container import Container, open_container
from gatewayd.ota.image_check import (
    check_encoding,
    check_image,
    other_encoding,
    reads_the_same,
    wrong_encoding,
)
from gatewayd.ota.keys import KeySet
from gatewayd.ota.patch import PatchEncoding, split_patch
from gatewayd.ota.rules import Deliver, Payload, SlotMatch, select_rom

# Nothing vouches for the patch version, and a device may report what it was offered from then on: one that no
# update could exceed must never reach it. Sming's devices have 32 bits for it.
MAX_PATCH = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Firmware:
    """A message that passed: its patch version, what follows the patch header, and the container in it.

    `container` is None for a standard payload, where the body is the image and nothing vouches for it.
    """

    patch: int
    body: memoryview = field(repr=False)
    container: Container | None

    @property
    def authenticated_timestamp_ms(self) -> int | None:
        """The timestamp for the rollback mark; None if nothing vouches for one."""
        return self.container.authenticated_timestamp_ms if self.container else None


def read_firmware(
    message: BytesLike,
    *,
    encoding: PatchEncoding,
    payload: Payload,
    keys: KeySet | None,
    allow_unsigned: bool,
    image_magic: bytes = b"",
    image_check: bool = True,
) -> Firmware:
    """Read a message and check its container against `keys`, or its image. Views, not copies.

    `image_magic` and `image_check` apply to the standard payload. Raises FirmwareError.
    """
    if payload is Payload.STANDARD:
        return _read_standard(message, encoding, image_magic if image_check else None)
    try:
        return _read_advanced(message, encoding, keys, allow_unsigned=allow_unsigned)
    except FirmwareError:
        if _opens_in_other_encoding(message, encoding, keys, allow_unsigned=allow_unsigned):
            raise wrong_encoding(encoding) from None
        raise


def _read_standard(message: BytesLike, encoding: PatchEncoding, magic: bytes | None) -> Firmware:
    """Read a bare image; with `magic` None it is not checked."""
    if magic is not None:
        check_encoding(message, encoding, magic)
    patch, body = split_patch(message, encoding)
    _check_patch(patch)
    if magic is not None:
        check_image(body, magic)
    return Firmware(patch, body, None)


def _read_advanced(
    message: BytesLike, encoding: PatchEncoding, keys: KeySet | None, *, allow_unsigned: bool
) -> Firmware:
    patch, body = split_patch(message, encoding)
    container = open_container(body, keys or KeySet(), allow_unsigned=allow_unsigned)
    _check_patch(patch)
    return Firmware(patch, body, container)


def _opens_in_other_encoding(
    message: BytesLike, encoding: PatchEncoding, keys: KeySet | None, *, allow_unsigned: bool
) -> bool:
    if reads_the_same(message):
        return False
    try:
        _read_advanced(message, other_encoding(encoding), keys, allow_unsigned=allow_unsigned)
    except FirmwareError:
        return False
    return True


def _check_patch(patch: int) -> None:
    if patch > MAX_PATCH:
        raise FirmwareError(
            f"patch version {patch} is beyond 32 bits",
            code="patch_implausible",
            hint="it was forged, or patch_encoding differs from the publisher's",
        )


def image_for(
    firmware: Firmware, *, deliver: Deliver, slot_address: int | None, slot_match: SlotMatch
) -> bytes | memoryview:
    """Return the bytes to send to a device.

    `container`: the body as it was published, still encrypted if it was: such a device has the keys itself. A
    standard payload offers no choice: always the body. Raises what `select_rom` raises.
    """
    if firmware.container is None or deliver is Deliver.CONTAINER:
        return firmware.body
    return select_rom(firmware.container.roms, slot_address, slot_match).content
