"""The content of INFO: facts common to all protocols, and those that only RCP needs."""

from dataclasses import dataclass

from gatewayd.protocol.image import ImageId
from gatewayd.protocol.session import LONGEST_BOOT_S, DeviceInfo, ImageState


def _name(sha256: bytes | None) -> ImageId | None:
    return None if sha256 is None else ImageId.of_file(sha256)


@dataclass(frozen=True, slots=True)
class RcpInfo:
    """What a device reports about itself. Sizes in bytes; absent facts are None."""

    app_id: str
    boot_id: int
    image_state: ImageState
    max_frame: int
    window: int
    rx_ring: int
    slot_size: int
    erase_block: int
    write_unit: int
    boot_time_s: int
    can_set_baud: bool
    can_revert: bool
    hardware_id: str | None = None
    device_id: str | None = None
    version: str | None = None
    slot_address: int | None = None
    running_sha256: bytes | None = None
    tried_sha256: bytes | None = None
    tried_count: int = 0
    can_short_data: bool = False

    @property
    def boot_limit_s(self) -> int:
        """How long to wait for its restart."""
        return min(self.boot_time_s, LONGEST_BOOT_S)

    @property
    def common(self) -> DeviceInfo:
        """The facts that are common to all protocols."""
        return DeviceInfo(
            app_id=self.app_id,
            image_state=self.image_state,
            boot_id=self.boot_id,
            hardware_id=self.hardware_id,
            device_id=self.device_id,
            version=self.version,
            running=_name(self.running_sha256),
            tried=_name(self.tried_sha256),
            slot_address=self.slot_address,
            slot_size=self.slot_size,
            can_revert=self.can_revert,
            boot_limit_s=self.boot_limit_s,
        )
