"""The facts about a device, gathered from several answers, and their form for the rest of gatewayd."""

import zlib
from dataclasses import dataclass, field

from gatewayd.protocol.image import ImageId
from gatewayd.protocol.session import LONGEST_BOOT_S, DeviceInfo, ImageState
from gatewayd.protocol.smp.answers import Buffers, Slot, Slots
from gatewayd.protocol.smp.mcuboot import image_id

# For a server that does not report its buffers: half of Zephyr's default size, and one request at a time.
UNTOLD_BUFFERS = Buffers(256, 1)
# MCUboot's modes in bootloader info: those with a trial boot, and the names of all.
_REVERTING = frozenset({1, 3, 5, 9})  # swap by scratch, move, offset; direct XIP with revert
_MODES = {
    0: "single slot",
    1: "swap using scratch",
    2: "overwrite only",
    3: "swap using move",
    4: "direct XIP",
    5: "direct XIP with revert",
    6: "RAM load",
    7: "firmware loader",
    8: "single slot in RAM",
    9: "swap using offset",
}


@dataclass(slots=True)
class Facts:
    """The result of one identification. Absent facts are None.

    Attributes:
        is_recovery: MCUboot's serial recovery answers, not the application.
        slot_size: the largest image, in bytes.
        mode: MCUboot's, as a number.
    """

    image: int = 0
    buffers: Buffers = UNTOLD_BUFFERS
    board: str | None = None
    mode: int | None = None
    slot_size: int | None = None
    slots: Slots = field(default_factory=lambda: Slots((), has_flags=False))
    is_recovery: bool = False

    @property
    def active(self) -> Slot | None:
        """The slot that runs."""
        return self.slots.active

    @property
    def can_revert(self) -> bool | None:
        """Whether the bootloader reverts if a new image fails; None: it does not say.

        Without a swap an image runs where it was uploaded, and only some such bootloaders revert.
        """
        if self.mode is not None:
            return self.mode in _REVERTING
        return False if self.active is not None and self.active.slot % 2 else None

    @property
    def mode_name(self) -> str | None:
        """MCUboot's mode in words."""
        return None if self.mode is None else _MODES.get(self.mode, f"mode {self.mode}")

    @property
    def boot_token(self) -> int:
        """A token that changes once a restart has taken effect: SMP counts no boots, but slots move."""
        slots = [(one.slot, one.hash, one.is_active, one.is_pending) for one in self.slots.all]
        return zlib.crc32(repr(slots).encode())

    def as_info(self, boot_s: int) -> DeviceInfo:
        """Return the facts that are common to all protocols."""
        active = self.active
        on_trial = active is not None and not active.is_confirmed
        return DeviceInfo(
            app_id=None,  # no SMP device reports it
            image_state=ImageState.ON_TRIAL if on_trial else ImageState.CONFIRMED,
            boot_id=self.boot_token,
            hardware_id=self.board,
            version=None if active is None else plain_version(active.version),
            running=None if active is None else slot_id(active),
            slot_size=self.slot_size,
            can_revert=self.can_revert,
            boot_limit_s=min(boot_s, LONGEST_BOOT_S),
            bootloader=None if self.mode is None else f"MCUboot, {self.mode_name}",
        )


def slot_id(slot: Slot) -> ImageId | None:
    """Return the id of the image in a slot."""
    return None if slot.hash is None else image_id(slot.hash)


def plain_version(text: str) -> str | None:
    """Return major.minor.revision of `1.2.3`, `1.2.3.4` or `1.2.3+4`; None for what is none of these."""
    parts = text.replace("+", ".").split(".")
    if not 3 <= len(parts) <= 4 or not all(part.isascii() and part.isdigit() for part in parts):  # noqa: PLR2004 - with or without a build number
        return None
    return ".".join(str(int(part)) for part in parts[:3])
