"""Which devices advertise, and who those are that offer RCP.

Listening disturbs nobody. Asking needs a connection, which a device has only one of: so it is done when it is
wished for, one device at a time, and not to what a running gatewayd has for its own. Nothing is paired: that
would change the device.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from gatewayd.errors import GatewaydError, LinkError, LinkLost
from gatewayd.link.ble import SERVICE, BleLink
from gatewayd.link.bluetooth import AdvertisementData, BLEDevice
from gatewayd.link.radio import Limits, Radio
from gatewayd.link.target import Target
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.session import DeviceInfo
from gatewayd.scan.answers import Answer, Frozen, identity, say_hello

# It was heard a moment ago.
LIMITS = Limits(scan_s=10.0, connect_s=10.0, discovery_s=10.0)
PATIENCE_S = 5.0
_BOND_HINT = (
    "does it want a bond? with pair: true gatewayd makes one, and so does `bluetoothctl pair ADDRESS`"
)


class HeardDevice(Frozen):
    """A device that advertises. `code` and `text` say why one that was to be asked has no `device`."""

    address: str
    name: str | None
    rssi_dbm: int
    offers_rcp: bool
    configured_as: str | None = None
    device: Answer | None = None
    code: str | None = None
    text: str | None = None
    hint: str | None = None


class BleReport(Frozen):
    """What `gatewayctl scan ble --json` prints: the nearest first, and which of ours it missed."""

    devices: tuple[HeardDevice, ...]
    not_heard: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ours:
    """What this gateway has. `targets`: by the device's name; `claimed`: why it is not asked, by its name."""

    gateway_id: str
    targets: Mapping[str, Target]
    claimed: Mapping[str, str]


async def scan_ble(radio: Radio, ours: Ours, *, duration_s: float, ask: bool, everything: bool) -> BleReport:
    """Listen for so long, ask if that is wished, and tell. Raises LinkError when the adapter cannot be used.

    Args:
        radio: by which adapter.
        ours: what is known already.
        duration_s: how long to listen.
        ask: whether to connect to who offers RCP, and say HELLO.
        everything: whether to tell also of who does not say that it offers RCP.
    """
    heard = [_told(*one, ours.targets) for one in await radio.survey(duration_s)]
    heard.sort(key=lambda one: one.rssi_dbm, reverse=True)
    names = {one.configured_as for one in heard}
    found = [one for one in heard if everything or one.offers_rcp or one.configured_as]
    if ask:
        found = [await _asked(radio, ours, one) for one in found]
    return BleReport(
        devices=tuple(found), not_heard=tuple(name for name in ours.targets if name not in names)
    )


def _told(device: BLEDevice, advertisement: AdvertisementData, targets: Mapping[str, Target]) -> HeardDevice:
    services = {*advertisement.service_uuids, *advertisement.service_data}
    return HeardDevice(
        address=device.address,
        name=advertisement.local_name,
        rssi_dbm=advertisement.rssi,
        offers_rcp=SERVICE in services,
        configured_as=next((name for name, one in targets.items() if one.is_in(device, advertisement)), None),
    )


async def _asked(radio: Radio, ours: Ours, heard: HeardDevice) -> HeardDevice:
    if not heard.offers_rcp and heard.configured_as is None:
        return heard
    try:
        if text := ours.claimed.get(heard.configured_as or ""):
            raise LinkError(text, code="link_busy", hint="gatewayd asks who is there by itself")
        info = await _hello(radio, heard.address, ours.gateway_id)
    except GatewaydError as error:
        hint = _BOND_HINT if isinstance(error, LinkLost) else error.hint
        return heard.model_copy(update={"code": error.code, "text": error.message, "hint": hint or None})
    return heard.model_copy(update={"device": Answer(**identity(info))})


async def _hello(radio: Radio, address: str, gateway_id: str) -> DeviceInfo:
    link = BleLink(lambda: radio, Target(address=address), limits=LIMITS, pair=False)
    session = RcpGateway(gateway_id, datagram=True, random=random.Random())  # noqa: S311 - picks a nonce, no secret
    return await say_hello(link, session, PATIENCE_S)
