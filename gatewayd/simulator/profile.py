"""The properties of a virtual device."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Identity, geometry and behaviour of a virtual device. Sizes in bytes."""

    app_id: str
    version: str
    hardware_id: str | None = None
    device_id: str | None = None
    slot_address: int | None = None
    slot_size: int = 16 * 1024 * 1024  # room for any image in the tests
    erase_block: int = 4096
    write_unit: int = 8  # STM32L4's, and a multiple of most others
    max_frame: int = 1034  # DATA with 1024 bytes of payload
    window: int = 4096
    rx_ring: int = 8192
    base_baud: int = 115200
    max_baud: int = 4_000_000  # what USB adapters top out at
    boot_s: float = 0.2  # silence after a restart
    boot_time_s: int = 2  # what it reports for that; generous
    erase_s: float = 0.0  # for each block; if not 0, everything is erased under BUSY before ACCEPT
    can_set_baud: bool = True
    can_revert: bool = True
    can_short_data: bool = True  # on a datagram link
    trial_cap_s: int = 65535  # the longest trial, whatever ACTIVATE says
    break_after_activate: bool = False  # an image on trial never answers

    @property
    def journal_area(self) -> int:
        """Size of each of the two journal areas: whole erase blocks, room for START and more."""
        return -(-1024 // self.erase_block) * self.erase_block

    @property
    def flash_size(self) -> int:
        """Size of the journal and the free slot behind it."""
        return 2 * self.journal_area + self.slot_size
