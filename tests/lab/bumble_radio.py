"""A radio in this process: bumble's virtual controllers, and a bleak backend on top of one of them.

`Air` is a place: controllers in it hear each other. `Air.backend()` puts a central there and returns what
bleak is to use in place of BlueZ; `Air.peripheral()` puts a device there.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bleak.backends.characteristic as bleak_characteristic
import bleak.backends.service as bleak_service
from bleak import BleakClient
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.exc import BleakError
from bumble import hci
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData, ProtocolError
from bumble.device import Advertisement, Connection, Device, Peer

from gatewayd.link.bluetooth import Backend
from gatewayd.link.bluez import Connected
from gatewayd.simulator import virtual_radio
from gatewayd.simulator.peripheral import PAIRING, Peripheral
from lab.rcp.radio import Airtime, Timetable

# What a Pi's controller asks for.
CENTRAL_MTU = 517
ADAPTER_ADDRESS = "DC:A6:32:00:00:01"


class PacedController(Controller):
    """A controller that has airtime: each of its packets waits for its turn, and is completed then.

    All its connections share it, and each direction has its own, that of the controller which sends.
    """

    timetable: Timetable

    def on_hci_acl_data_packet(self, packet: hci.HCI_AclDataPacket) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(self.timetable.book(loop.time()), super().on_hci_acl_data_packet, packet)


class Air(virtual_radio.Air):
    """A place with a radio. `airtime`: how much each controller may send, which is all at once without it."""

    def __init__(self, airtime: Airtime | None = None) -> None:
        super().__init__()
        self._airtime = airtime

    async def backend(self) -> "BumbleBackend":
        """Put an adapter there."""
        return BumbleBackend.on(await self.device("central"))

    async def peripheral(self, name: str, address: str, **settings: Any) -> Peripheral:
        """Put a device there that offers RCP, and let it advertise, again after each connection."""
        peripheral = Peripheral(await self.device(name, address), **settings)
        loop = asyncio.get_running_loop()
        peripheral.on_disconnected = lambda: loop.create_task(peripheral.advertise())
        await peripheral.advertise()
        return peripheral

    def _make_controller(self, name: str, **parts: Any) -> Controller:
        if self._airtime is None:
            return super()._make_controller(name, **parts)
        controller = PacedController(name, **parts)
        controller.timetable = Timetable(self._airtime)
        return controller


@dataclass
class BumbleBackend:
    """One adapter, as bleak sees it. `fault` is raised by the next scan; `connects` counts."""

    central: Device
    backend: Backend
    fault: Exception | None = None
    connect_faults: list[Exception] = field(default_factory=list)
    connects: int = 0
    connecting: int = 0
    most_connecting: int = 0
    connected: int = 0
    most_connected: int = 0
    scans: int = 0
    pairs: int = 0
    bonds: int = 0
    forgets_after_s: float = math.inf  # what it has not heard for so long it knows no more, as BlueZ does
    heard_at: dict[str, float] = field(default_factory=dict)

    def fail_if_told(self) -> None:
        if self.connect_faults:
            raise self.connect_faults.pop(0)

    @classmethod
    def on(cls, central: Device) -> "BumbleBackend":
        # bleak makes the instances itself, so what they belong to is an attribute of their class.
        adapter = cls(central, Backend())
        central.pairing_config_factory = lambda _: PAIRING
        client = type("Client", (BumbleClient,), {"adapter": adapter})
        scanner = type("Scanner", (BumbleScanner,), {"adapter": adapter})
        adapter.backend = Backend(client, scanner, BumbleConnections(central))
        return adapter


@dataclass(frozen=True)
class BumbleConnections:
    """The connections of a bumble device, incoming and outgoing."""

    central: Device
    forgotten: list[str] = field(default_factory=list)

    async def connected(self) -> list[Connected]:
        connections = self.central.connections.values()
        return [Connected(str(one.handle), one.peer_address.to_string(False)) for one in connections]

    async def disconnect(self, device: Connected) -> None:
        await self.central.connections[int(device.path)].disconnect()

    async def pair(self, client: BleakClient, _: BLEDevice) -> bool:
        keystore = self.central.keystore
        assert keystore is not None
        had_bond = await keystore.get(client.address) is not None
        await client.pair()
        return had_bond

    async def adapters(self) -> dict[str, str]:
        return {ADAPTER_ADDRESS: "hci0"}

    async def forget(self, device: BLEDevice) -> None:
        self.forgotten.append(device.address)


class BumbleScanner(BaseBleakScanner):
    """A scanner on a bumble device."""

    adapter: BumbleBackend

    def __init__(self, detection_callback: Any, service_uuids: Any, *_: Any, **__: Any) -> None:
        super().__init__(detection_callback, service_uuids)

    async def start(self) -> None:
        if self.adapter.fault:
            raise self.adapter.fault
        self.adapter.scans += 1
        self.adapter.central.on("advertisement", self._on_report)
        await self.adapter.central.start_scanning(filter_duplicates=False)

    async def stop(self) -> None:
        self.adapter.central.remove_listener("advertisement", self._on_report)
        await self.adapter.central.stop_scanning()

    def set_scanning_filter(self, **_: Any) -> None:
        """For bleak before 1.0."""

    def _on_report(self, report: Advertisement) -> None:
        name = report.data.get(AdvertisingData.Type.COMPLETE_LOCAL_NAME)
        raw = report.data.get(AdvertisingData.Type.SERVICE_DATA_128_BIT_UUID)
        uuids = report.data.get(AdvertisingData.Type.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS) or ()
        heard = AdvertisementData(
            local_name=str(name) if name else None,
            manufacturer_data={},
            service_data={_text(raw[0]): bytes(raw[1])} if raw else {},
            service_uuids=[_text(uuid) for uuid in uuids],
            tx_power=None,
            rssi=report.rssi,
            platform_data=(),
        )
        address = report.address.to_string(False)
        self.adapter.heard_at[address] = asyncio.get_running_loop().time()
        device: Any = BLEDevice(address, heard.local_name, report.address, **OLD_DEVICE)
        self.call_detection_callbacks(device, heard)


class BumbleClient(BaseBleakClient):
    """A client on a bumble device."""

    adapter: BumbleBackend

    def __init__(self, address_or_ble_device: Any, **settings: Any) -> None:
        super().__init__(address_or_ble_device, **settings)
        self._device: BLEDevice = address_or_ble_device
        self._connection: Connection | None = None
        self._peer: Peer | None = None

    @property
    def name(self) -> str:
        return self._device.name or self.address

    @property
    def mtu_size(self) -> int:
        return 23  # as bleak says on BlueZ

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def connect(self, *_: Any, **__: Any) -> Any:
        adapter = self.adapter
        adapter.connects += 1
        adapter.connecting += 1
        adapter.most_connecting = max(adapter.most_connecting, adapter.connecting)
        try:
            adapter.fail_if_told()
            silent_s = asyncio.get_running_loop().time() - adapter.heard_at[self._device.address]
            assert silent_s < adapter.forgets_after_s  # as bleak 0.22.3 says it
            connection = await adapter.central.connect(self._device.details, timeout=self._timeout)
            self._connection = connection
            connection.on("disconnection", self._on_disconnection)
            adapter.connected += 1
            adapter.most_connected = max(adapter.most_connected, adapter.connected)
            self._peer = Peer(connection)
            await self._peer.request_mtu(CENTRAL_MTU)
            await self.get_services()
        except (TimeoutError, asyncio.CancelledError, BleakError):
            raise
        except Exception as error:
            raise BleakError(str(error) or type(error).__name__) from error
        finally:
            adapter.connecting -= 1

    async def get_services(self, **_: Any) -> Any:
        peer = self._the_peer()
        services = bleak_service.BleakGATTServiceCollection()
        await peer.discover_services()
        for service in peer.services:
            await service.discover_characteristics()
            mirrored = make_service(service)
            services.add_service(mirrored)
            for characteristic in service.characteristics:
                services.add_characteristic(
                    make_characteristic(characteristic, mirrored, lambda: peer.gatt_client.mtu - 3)
                )
        self.services = services
        return services

    async def disconnect(self) -> Any:
        if self._connection is not None:
            await self._connection.disconnect()
        return True

    async def pair(self, *_: Any, **__: Any) -> Any:
        self.adapter.pairs += 1
        connection = self._the_peer().connection
        keystore = self.adapter.central.keystore
        assert keystore is not None
        try:
            if await keystore.get(str(connection.peer_address)):  # as BlueZ does with a bond
                await connection.encrypt()
            else:
                await connection.pair()
                self.adapter.bonds += 1
        except ProtocolError as error:
            raise BleakError(f"Authentication failed: {error}") from error
        return True

    async def unpair(self) -> Any:
        raise NotImplementedError

    async def read_gatt_char(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def read_gatt_descriptor(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def write_gatt_char(self, characteristic: Any, data: Any, response: bool) -> None:
        try:
            await self._the_peer().gatt_client.write_value(characteristic.handle, bytes(data), response)
        except (TimeoutError, ProtocolError) as error:
            raise BleakError(str(error)) from error

    async def write_gatt_descriptor(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError

    async def start_notify(
        self, characteristic: Any, callback: Callable[[bytearray], None], **_: Any
    ) -> None:
        proxy = characteristic.obj
        await proxy.discover_descriptors()
        await proxy.subscribe(lambda value: callback(bytearray(value)))

    async def stop_notify(self, *_: Any) -> None:
        raise NotImplementedError

    def _the_peer(self) -> Peer:
        if self._peer is None or self._connection is None:
            raise BleakError("Not connected")
        return self._peer

    def _on_disconnection(self, _: int) -> None:
        self._connection = None
        self.adapter.connected -= 1
        if self._disconnected_callback:
            self._disconnected_callback()


_IS_OLD = hasattr(bleak_characteristic.BleakGATTCharacteristic, "add_descriptor") and bool(
    getattr(bleak_characteristic.BleakGATTCharacteristic, "__abstractmethods__", None)
)
OLD_DEVICE: dict[str, Any] = {"rssi": -40} if _IS_OLD else {}


def make_service(proxy: Any) -> Any:
    """Return bleak's word for a service, which is abstract before bleak 1.0."""
    if not _IS_OLD:
        return bleak_service.BleakGATTService(proxy, proxy.handle, _text(proxy.uuid))
    return _filled(bleak_service.BleakGATTService)(proxy, handle=proxy.handle, uuid=_text(proxy.uuid))


def make_characteristic(proxy: Any, service: Any, max_write: Callable[[], int]) -> Any:
    """Return bleak's word for a characteristic."""
    if not _IS_OLD:
        return bleak_characteristic.BleakGATTCharacteristic(
            proxy, proxy.handle, _text(proxy.uuid), [], max_write, service
        )
    kind = _filled(bleak_characteristic.BleakGATTCharacteristic)
    return kind(
        proxy,
        max_write,
        handle=proxy.handle,
        uuid=_text(proxy.uuid),
        service_uuid=service.uuid,
        service_handle=service.handle,
        properties=[],
        descriptors=[],
    )


def _filled(abstract: Any) -> Any:
    """Return a class of an abstract one, whose properties are given to its instances."""

    def initialise(self: Any, *arguments: Any, **properties: Any) -> None:
        abstract.__init__(self, *arguments)
        self.__dict__["properties_given"] = properties
        self.__dict__["kept"] = []

    def reading(name: str) -> Any:
        return property(lambda self: self.properties_given.get(name, self.kept))

    members: dict[str, Any] = {name: reading(name) for name in abstract.__abstractmethods__}
    members["__init__"] = initialise
    for verb in ("add_characteristic", "add_descriptor"):
        members[verb] = lambda self, what: self.kept.append(what)
    members["get_characteristic"] = lambda self, uuid: next(
        (one for one in self.kept if one.uuid == str(uuid)), None
    )
    members["get_descriptor"] = lambda self, uuid: None  # noqa: ARG005 - its signature
    return type(abstract.__name__, (abstract,), members)


def _text(uuid: UUID) -> str:
    return uuid.to_hex_str("-").lower()
