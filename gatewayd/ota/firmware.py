"""Everything one OTA message says, read and checked in one call."""

from dataclasses import dataclass, field

from gatewayd.errors import FirmwareError
from gatewayd.ota import BytesLike
from gatewayd.ota.container import Container, open_container
from gatewayd.ota.keys import KeySet
from gatewayd.ota.patch import PatchEncoding, split_patch
from gatewayd.ota.rules import Deliver, Payload, SlotMatch, select_rom

# Nothing vouches for the patch version, and a device that repeats what it was offered says it from then on:
# one that no update could exceed must not get so far. Sming's devices have 32 bits for it.
MAX_PATCH = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Firmware:
    """A message that passed: its patch version, what follows the patch header, and the container in that.

    `container` is None for a standard payload, where the body is the image and nothing vouches for it.
    """

    patch: int
    body: memoryview = field(repr=False)
    container: Container | None

    @property
    def authenticated_timestamp_ms(self) -> int | None:
        """What the rollback mark is made of; None where nothing vouches for a timestamp."""
        return self.container.authenticated_timestamp_ms if self.container else None


def read_firmware(
    message: BytesLike,
    *,
    encoding: PatchEncoding,
    payload: Payload,
    keys: KeySet | None,
    allow_unsigned: bool,
) -> Firmware:
    """Read a message and check its container against `keys`. Views, not copies. Raises FirmwareError."""
    patch, body = split_patch(message, encoding)
    container = None
    if payload is not Payload.STANDARD:
        container = open_container(body, keys or KeySet(), allow_unsigned=allow_unsigned)
    if patch > MAX_PATCH:
        raise FirmwareError(
            f"patch version {patch} is beyond 32 bits",
            code="patch_implausible",
            hint="nobody counts that far: it was forged, or patch_encoding is not that of the publisher",
        )
    return Firmware(patch, body, container)


def image_for(
    firmware: Firmware, *, deliver: Deliver, slot_address: int | None, slot_match: SlotMatch
) -> bytes | memoryview:
    """Return the bytes to send to a device.

    `container`: the body as it was published, still encrypted when it was: such a device holds the keys
    itself. A standard payload has nothing to choose from: always the body. Raises what `select_rom` raises.
    """
    if firmware.container is None or deliver is Deliver.CONTAINER:
        return firmware.body
    return select_rom(firmware.container.roms, slot_address, slot_match).content
