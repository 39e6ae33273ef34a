"""Two image slots and what MCUboot makes of them at each boot (swap using offset). Pure.

`verify` says whether the bootloader accepts an image, `hangs` whether it never answers once it runs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from gatewayd.errors import FirmwareError
from gatewayd.protocol.smp.mcuboot import McubootImage, read_image

SLOT_SIZE = 106_496


def listed_image(content: bytes) -> McubootImage | None:
    """Return what a server lists of a slot: the hash is read there, never computed."""
    try:
        return read_image(content, verifies=False)
    except FirmwareError:
        return None


def is_accepted(content: bytes) -> bool:
    """Whether MCUboot starts it: the hash is computed."""
    try:
        read_image(content)
    except FirmwareError:
        return False
    return True


@dataclass
class Slots:
    """What a device's flash holds, and survives its power cuts.

    Attributes:
        old: what was in the first slot before a swap; listed until the new image is confirmed.
        is_pending: the second slot is tried at the next boot.
        is_confirmed: the first slot stays.
        trials: how often a new image was started.
        reverts: whether the old image is kept; otherwise the new one overwrites it, for good.
    """

    primary: bytes
    secondary: bytes = b""
    old: bytes = b""
    is_pending: bool = False
    is_confirmed: bool = True
    verify: Callable[[bytes], bool] = is_accepted
    hangs: Callable[[bytes], bool] = field(default=lambda _content: False)
    trials: int = 0
    reverts: bool = True

    def boot(self) -> bool:
        """Do what MCUboot does; return whether the application answers."""
        if self.is_pending:
            self._try_secondary()
        elif not self.is_confirmed:
            self._revert()
        return not self.hangs(self.primary)

    def confirm(self) -> None:
        """Keep what runs."""
        self.is_confirmed = True

    def erase_secondary(self) -> None:
        """Make room for an upload; a trial that was pending is off."""
        self.secondary = self.old = b""
        self.is_pending = False

    def _try_secondary(self) -> None:
        self.is_pending = False
        if not self.verify(self.secondary):
            self.secondary = b""
            return
        self.trials += 1
        self.primary, self.old, self.secondary = self.secondary, self.primary, b""
        self.is_confirmed = False
        if not self.reverts:
            self.old, self.is_confirmed = b"", True

    def _revert(self) -> None:
        self.primary, self.secondary, self.old = self.old, self.primary, b""
        self.is_confirmed = True
