"""The GATT side of a virtual device: advertises a protocol's service, takes writes, notifies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bumble.core import UUID, AdvertisingData
from bumble.device import Connection, Device
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.keys import JsonKeyStore
from bumble.pairing import PairingConfig

from gatewayd.protocol.gatt import GattProfile
from gatewayd.protocol.rcp.kind import GATT as RCP

_KINDS = AdvertisingData.Type
_LEGACY_ADVERTISEMENT = 31  # bytes
_SUPERVISION_MS = 5000
# Nobody is there to compare numbers, and its identity is the address that it advertises.
PAIRING = PairingConfig(mitm=False, identity_address_type=PairingConfig.AddressType.RANDOM)


class Peripheral:
    """A device that offers a protocol: writes go to `on_frame`, in order; `notify` sends a frame.

    `profile` is the protocol's service, RCP's unless told otherwise; `mtu` is the largest it accepts;
    `needs_bond` refuses unencrypted writes; `interval_ms` is the connection interval it requests; without
    `has_service` it is some other device.
    """

    def __init__(
        self,
        device: Device,
        *,
        profile: GattProfile = RCP,
        mtu: int = 247,
        needs_bond: bool = False,
        interval_ms: float | None = None,
        has_service: bool = True,
        advertising_ms: int = 20,
        on_frame: Callable[[bytes], None] | None = None,
    ) -> None:
        self.device = device
        self.frames: list[bytes] = []
        self.on_frame = on_frame or self.frames.append
        self.on_connected: Callable[[int], None] = lambda _size: None
        self.on_disconnected: Callable[[], object] = lambda: None
        self.connection: Connection | None = None
        self._interval_ms = interval_ms
        self._profile = profile
        self._has_service = has_service
        self._advertising_ms = advertising_ms
        device.gatt_server.max_mtu = mtu
        device.pairing_config_factory = lambda _: PAIRING
        inlet, self._outlet = _characteristics(profile, CharacteristicValue(write=self._written), needs_bond)
        if has_service:
            own = [inlet] if inlet is self._outlet else [inlet, self._outlet]
            device.add_service(Service(UUID(profile.service), own))
        device.on("connection", self._on_connection)

    def keep_bonds(self, path: Path) -> None:
        """Keep the bonds in a file, so that they outlive this process."""
        self.device.keystore = JsonKeyStore("bonds", str(path))

    async def advertise(self, service_data: bytes | None = None) -> None:
        """Advertise the protocol, with service data if given, and the name where there is room."""
        data: list[Any] = [(_KINDS.FLAGS, b"\x06")]
        if service_data is not None:
            data.append((_KINDS.SERVICE_DATA_128_BIT_UUID, bytes(UUID(self._profile.service)) + service_data))
        elif self._has_service:
            uuid = bytes(UUID(self._profile.service))
            data.append((_KINDS.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, uuid))
        name = (_KINDS.COMPLETE_LOCAL_NAME, self.device.name.encode())
        if len(bytes(AdvertisingData([*data, name]))) <= _LEGACY_ADVERTISEMENT:
            data.append(name)
        self.device.advertising_data = bytes(AdvertisingData(data))
        self.device.scan_response_data = bytes(AdvertisingData([name]))
        await self.device.start_advertising(
            advertising_interval_min=self._advertising_ms,
            advertising_interval_max=self._advertising_ms,
        )

    async def fall_silent(self) -> None:
        """Switch off: no connection, no advertisement."""
        await self.device.stop_advertising()
        await self.drop()

    async def notify(self, frame: bytes) -> None:
        """Send a frame to the subscribers."""
        await self.device.notify_subscribers(self._outlet, frame)

    async def drop(self) -> None:
        """End the connection from this side."""
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.disconnect()

    def _on_connection(self, connection: Connection) -> None:
        self.connection = connection
        connection.on("connection_att_mtu_update", lambda: self.on_connected(connection.att_mtu - 3))
        connection.on("disconnection", self._on_disconnection)
        self.on_connected(connection.att_mtu - 3)
        if self._interval_ms is not None:
            connection.cancel_on_disconnection(self._ask_for(connection, self._interval_ms))

    async def _ask_for(self, connection: Connection, interval_ms: float) -> None:
        await connection.update_parameters(interval_ms, interval_ms, 0, _SUPERVISION_MS, use_l2cap=True)

    def _on_disconnection(self, _: int) -> None:
        self.connection = None
        self.on_disconnected()

    def _written(self, _: Any, value: bytes) -> None:
        self.on_frame(bytes(value))


def _characteristics(
    profile: GattProfile, written: CharacteristicValue[bytes], needs_bond: bool
) -> tuple[Characteristic[bytes], Characteristic[bytes]]:
    """Return those to write to and to be notified by, which may be one."""
    kinds = Characteristic.Properties
    permissions = Characteristic.WRITEABLE | (Characteristic.WRITE_REQUIRES_ENCRYPTION if needs_bond else 0)
    writing = kinds.WRITE_WITHOUT_RESPONSE | (kinds.WRITE if profile.takes_requests else kinds(0))
    if profile.to_device == profile.from_device:
        both: Characteristic[bytes] = Characteristic(
            UUID(profile.to_device), writing | kinds.NOTIFY, permissions, written
        )
        return both, both
    inlet: Characteristic[bytes] = Characteristic(UUID(profile.to_device), writing, permissions, written)
    outlet: Characteristic[bytes] = Characteristic(
        UUID(profile.from_device), kinds.NOTIFY, Characteristic.READABLE, b""
    )
    return inlet, outlet
