"""Create a session in a device's protocol from its configuration."""

from gatewayd.config import BleSettings, Device, Settings
from gatewayd.protocol.kind import SessionContext
from gatewayd.protocol.registry import PROTOCOLS
from gatewayd.protocol.session import TransferSession


def make_session(settings: Settings, device: Device) -> TransferSession:
    """Return a session for one opening of the device's link."""
    return PROTOCOLS[device.protocol].make_session(_context(settings.gateway.id, device))


def _context(gateway_id: str, device: Device) -> SessionContext:
    link = device.link
    if isinstance(link, BleSettings):
        return SessionContext(
            gateway_id,
            is_datagram=True,
            busy_s=link.limits.erase_s,
            answer_floor_s=link.limits.chunk_ms / 1000,
            accepts_no_trial=device.allow_no_trial,
            settings=device.protocol_settings,
        )
    return SessionContext(
        gateway_id,
        baud=link.baud,
        transfer_baud=link.transfer_baud,
        accepts_no_trial=device.allow_no_trial,
        settings=device.protocol_settings,
    )
