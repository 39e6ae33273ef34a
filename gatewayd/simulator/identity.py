"""What a virtual device reports about itself in INFO."""

from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.journal import Memory


def describe(
    bootloader: Bootloader,
    memory: Memory,
    *,
    boot_id: int,
    running_sha256: bytes | None,
    is_datagram: bool,
) -> RcpInfo:
    """Return the current INFO."""
    profile = bootloader.profile
    tried = memory.tried_sha256 if memory.tried_count else None
    return RcpInfo(
        app_id=profile.app_id,
        boot_id=boot_id,
        image_state=bootloader.image_state(tried),
        max_frame=profile.max_frame,
        window=profile.window,
        rx_ring=profile.rx_ring,
        slot_size=profile.slot_size,
        erase_block=profile.erase_block,
        write_unit=profile.write_unit,
        boot_time_s=profile.boot_time_s,
        can_set_baud=profile.can_set_baud and not is_datagram,
        can_revert=profile.can_revert,
        hardware_id=profile.hardware_id,
        device_id=profile.device_id,
        version=bootloader.version,
        slot_address=profile.slot_address,
        running_sha256=running_sha256,
        tried_sha256=tried,
        tried_count=memory.tried_count,
        can_short_data=profile.can_short_data and is_datagram,
    )
