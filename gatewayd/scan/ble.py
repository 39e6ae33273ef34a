"""Find Bluetooth devices that advertise, and identify those that offer a supported protocol.

Listening disturbs nobody. Identifying needs a connection, and a device has only one; so it is done only on
request, for one device at a time, and never for devices of a running gatewayd. Devices are not paired,
because pairing would change them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewayd.errors import GatewaydError, LinkError, LinkLost
from gatewayd.link.ble import BleLink
from gatewayd.link.bluetooth import AdvertisementData, BLEDevice
from gatewayd.link.radio import Limits, Radio
from gatewayd.link.radios import only
from gatewayd.link.target import Target
from gatewayd.protocol.kind import SessionContext
from gatewayd.protocol.registry import DEFAULT_PROTOCOL, PROTOCOLS
from gatewayd.protocol.session import DeviceInfo
from gatewayd.scan.answers import Answer, Frozen, ask_identity, identity

# Short limits: the device was heard a moment ago.
LIMITS = Limits(scan_s=10.0, connect_s=10.0, discovery_s=10.0)
PATIENCE_S = 5.0
_BOND_HINT = (
    "it may require a bond: gatewayd makes one with pair: true, and so does `bluetoothctl pair ADDRESS`"
)


class HeardDevice(Frozen):
    """A device that advertises. `code` and `text` say why a device that was asked has no `device`.

    `protocols`: those it advertises. `offers_rcp`: the same for RCP alone, as in earlier versions.
    """

    address: str
    name: str | None
    rssi_dbm: int
    offers_rcp: bool
    protocols: tuple[str, ...] = ()
    configured_as: str | None = None
    device: Answer | None = None
    code: str | None = None
    text: str | None = None
    hint: str | None = None


class BleReport(Frozen):
    """The output of `gatewayctl scan ble --json`: nearest first, and the configured devices not heard."""

    devices: tuple[HeardDevice, ...]
    not_heard: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ours:
    """This gateway's own devices, by name.

    `targets`: what to listen for; `claimed`: why a device is not asked; `protocols`: the configured ones.
    """

    gateway_id: str
    targets: Mapping[str, Target]
    claimed: Mapping[str, str]
    protocols: Mapping[str, str] = field(default_factory=dict)


async def scan_ble(radio: Radio, ours: Ours, *, duration_s: float, ask: bool, everything: bool) -> BleReport:
    """Listen for devices, and identify them if `ask`. Raises LinkError if the adapter cannot be used.

    Args:
        radio: the adapter to use.
        ours: this gateway's own devices.
        duration_s: how long to listen.
        ask: whether to connect to devices that offer a protocol, and identify them.
        everything: whether to list devices that do not advertise a protocol too.
    """
    heard = [_describe(*one, ours.targets) for one in await radio.survey(duration_s)]
    heard.sort(key=lambda one: one.rssi_dbm, reverse=True)
    names = {one.configured_as for one in heard}
    found = [one for one in heard if everything or one.protocols or one.configured_as]
    if ask:
        found = [await _with_identity(radio, ours, one) for one in found]
    return BleReport(
        devices=tuple(found), not_heard=tuple(name for name in ours.targets if name not in names)
    )


def _describe(
    device: BLEDevice, advertisement: AdvertisementData, targets: Mapping[str, Target]
) -> HeardDevice:
    services = {*advertisement.service_uuids, *advertisement.service_data}
    offered = tuple(
        name for name, kind in PROTOCOLS.items() if kind.gatt is not None and kind.gatt.service in services
    )
    return HeardDevice(
        address=device.address,
        name=advertisement.local_name,
        rssi_dbm=advertisement.rssi,
        offers_rcp=DEFAULT_PROTOCOL in offered,
        protocols=offered,
        configured_as=next((name for name, one in targets.items() if one.is_in(device, advertisement)), None),
    )


async def _with_identity(radio: Radio, ours: Ours, heard: HeardDevice) -> HeardDevice:
    if not heard.protocols and heard.configured_as is None:
        return heard
    configured = ours.protocols.get(heard.configured_as or "", DEFAULT_PROTOCOL)
    protocol = next(iter(heard.protocols), configured)
    try:
        if text := ours.claimed.get(heard.configured_as or ""):
            raise LinkError(text, code="link_busy", hint="gatewayd identifies its devices itself")
        info = await _identify(radio, heard.address, protocol, ours.gateway_id)
    except GatewaydError as error:
        hint = _BOND_HINT if isinstance(error, LinkLost) else error.hint
        return heard.model_copy(update={"code": error.code, "text": error.message, "hint": hint or None})
    return heard.model_copy(update={"device": Answer(**identity(info, protocol))})


async def _identify(radio: Radio, address: str, protocol: str, gateway_id: str) -> DeviceInfo:
    kind = PROTOCOLS[protocol]
    if kind.gatt is None:
        raise LinkError(
            f"{address} is configured for {kind.title}, which does not support Bluetooth", code="no_service"
        )
    link = BleLink(only(radio), Target(address=address), kind.gatt, limits=LIMITS, pair=False)
    context = SessionContext(gateway_id, is_datagram=True, only_identifies=True)
    return await ask_identity(link, kind.make_session(context), PATIENCE_S)
