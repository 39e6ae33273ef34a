# ruff: noqa: F722, F821, N802 - D-Bus wants its signatures as annotations, and its names
"""What is asked of BlueZ, over a real D-Bus with a stand-in for BlueZ on it."""

import asyncio
import contextlib
import gc
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bleak import BleakClient
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError
from dbus_fast import BusType, DBusError, Message, MessageType, PropertyAccess, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_property, method
from lab.bumble_radio import OLD_DEVICE

from gatewayd.errors import LinkError
from gatewayd.link import stale_connections
from gatewayd.link.bluez import BluezConnections, Connected, close
from gatewayd.link.radio import Limits, Radio
from gatewayd.link.stale_connections import StaleConnections
from gatewayd.link.target import Target

CONFIG = """<busconfig><type>session</type><listen>unix:path={0}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"""
UUID = "c1b70001-3e5a-4d8b-9f06-67617465776d"


class Device1(ServiceInterface):
    """A device as BlueZ has it."""

    def __init__(self, address: str, label: str, agents: "AgentManager1", *, connected: bool) -> None:
        super().__init__("org.bluez.Device1")
        self.path = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
        self.address, self.label, self.connected = address, label, connected
        self.is_stuck = self.hangs = self.is_paired = False
        self._agents = agents
        self.adapter: Adapter1

    @dbus_property(access=PropertyAccess.READ)
    def Paired(self) -> "b":  # type: ignore[name-defined]
        return self.is_paired

    @dbus_property(access=PropertyAccess.READ)
    def Address(self) -> "s":  # type: ignore[name-defined]
        return self.address

    @dbus_property(access=PropertyAccess.READ)
    def Name(self) -> "s":  # type: ignore[name-defined]
        return self.label

    @dbus_property(access=PropertyAccess.READ)
    def Connected(self) -> "b":  # type: ignore[name-defined]
        return self.connected

    @dbus_property(access=PropertyAccess.READ)
    def ServiceData(self) -> "a{sv}":  # type: ignore[valid-type]
        return {UUID: Variant("ay", self.label.encode())}

    @method()
    async def Disconnect(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_stuck:
            raise DBusError("org.bluez.Error.Failed", "it is stuck")
        self.connected = False

    @method()
    async def Pair(self) -> None:
        if self.is_paired:
            raise DBusError("org.bluez.Error.AlreadyExists", "Already Exists")
        if self.is_stuck or await self._agents.ask("RequestConfirmation", "ou", self.path, 0):
            raise DBusError("org.bluez.Error.AuthenticationFailed", "Authentication Failed")
        self.is_paired = not await self._agents.ask("RequestAuthorization", "o", self.path)
        for member, signature, *body in REFUSED:
            self.is_paired &= await self._agents.ask(member, signature, *body) == "org.bluez.Error.Rejected"


# What is asked about another device, and what takes a display or keys.
REFUSED: tuple[tuple[Any, ...], ...] = (
    ("RequestConfirmation", "ou", "/org/bluez/hci0/dev_C0_FF_EE_00_00_09", 0),
    ("RequestAuthorization", "o", "/org/bluez/hci0/dev_C0_FF_EE_00_00_09"),
    ("RequestPasskey", "o", "/org/bluez/hci0/dev_C0_FF_EE_00_00_01"),
)


class Adapter1(ServiceInterface):
    """An adapter as BlueZ has it."""

    def __init__(self) -> None:
        super().__init__("org.bluez.Adapter1")
        self.removed: list[str] = []

    @dbus_property(access=PropertyAccess.READ)
    def Address(self) -> "s":  # type: ignore[name-defined]
        return "DC:A6:32:00:00:01"

    @method()
    def RemoveDevice(self, path: "o") -> None:  # type: ignore[name-defined]
        self.removed.append(path)


class AgentManager1(ServiceInterface):
    """Where agents are registered, as BlueZ has it; each is that of who has registered it."""

    def __init__(self, bus: MessageBus) -> None:
        super().__init__("org.bluez.AgentManager1")
        self._bus = bus
        self.agent: tuple[str, str] | None = None
        bus.add_message_handler(self._note_sender)

    def _note_sender(self, message: Message) -> None:
        if message.member == "RegisterAgent":
            self.agent = message.sender, message.body[0]

    @method()
    def RegisterAgent(self, path: "o", capability: "s") -> None:  # type: ignore[name-defined]  # noqa: ARG002 - BlueZ takes it
        assert capability == "NoInputNoOutput"

    async def ask(self, member: str, signature: str, *body: object) -> str | None:
        """Ask the agent; returns the name of its error."""
        assert self.agent is not None
        sender, path = self.agent
        asked = Message(sender, path, "org.bluez.Agent1", member, signature=signature, body=list(body))
        reply = await self._bus.call(asked)
        assert reply is not None
        return reply.error_name if reply.message_type is MessageType.ERROR else None


Devices = dict[str, Device1]


@pytest.fixture
async def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Devices]:
    (tmp_path / "bus.conf").write_text(CONFIG.format(tmp_path / "bus"))
    command = ["dbus-daemon", "--nofork", "--print-address", "--config-file", str(tmp_path / "bus.conf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:  # noqa: ASYNC220 - it is brief
        try:
            assert daemon.stdout is not None
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", daemon.stdout.readline().decode().strip())
            bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
            yield await stand_in_for_bluez(bus)
            await close(bus)
        finally:
            daemon.terminate()


async def stand_in_for_bluez(bus: MessageBus) -> Devices:
    agents = AgentManager1(bus)
    bus.export("/org/bluez", agents)
    adapter = Adapter1()
    bus.export("/org/bluez/hci0", adapter)
    made = [
        Device1("C0:FF:EE:00:00:01", "tag-1", agents, connected=True),
        Device1("C0:FF:EE:00:00:02", "tag-2", agents, connected=True),
        Device1("C0:FF:EE:00:00:03", "tag-3", agents, connected=False),
    ]
    for one in made:
        one.adapter = adapter
        bus.export(one.path, one)
    await bus.request_name("org.bluez")
    return {one.label: one for one in made}


async def test_no_connection_to_d_bus_stays_open(devices: Devices) -> None:
    async def ask() -> None:
        with contextlib.suppress(BleakError):
            await BluezConnections().disconnect(Connected("/nowhere", devices["tag-1"].address))

    await no_file_stays_open(ask)


async def no_file_stays_open(ask: Callable[[], Awaitable[None]]) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await ask()
    gc.collect()
    gc.disable()  # it would close what the code has left open
    try:
        before = open_files()
        for _ in range(3):
            await ask()
        assert open_files() == before
    finally:
        gc.enable()


async def test_one_that_bluez_has_forgotten_is_told_of_and_leaves_nothing_open(devices: Devices) -> None:
    assert devices
    details = {"path": "/org/bluez/hci0/dev_C0_FF_EE_00_00_09", "props": {}}
    gone: Any = BLEDevice("C0:FF:EE:00:00:09", "gone", details, **OLD_DEVICE)

    async def connect() -> None:
        with pytest.raises(LinkError) as raised:
            await Radio("hci0").connect(gone, Limits(), pair=False, on_end=lambda: None)
        assert raised.value.code == "device_forgotten"

    await no_file_stays_open(connect)


async def test_who_is_connected(devices: Devices) -> None:
    found = await BluezConnections().connected()
    assert {(one.path, one.address, one.name) for one in found} == {
        (devices[name].path, devices[name].address, name) for name in ("tag-1", "tag-2")
    }
    assert {bytes(one.service_data[UUID]) for one in found} == {b"tag-1", b"tag-2"}


@pytest.mark.parametrize(
    "target",
    [
        Target(address="c0:ff:ee:00:00:01"),
        Target(name="tag-1"),
        Target(service_data=(UUID, b"tag-1")),
        Target(address="C0:FF:EE:00:00:01", name="tag-1"),
    ],
)
async def test_what_a_former_life_left_is_ended_and_nothing_else(devices: Devices, target: Target) -> None:
    await StaleConnections(BluezConnections()).clear([Target(name="somebody"), target])
    assert {name: one.connected for name, one in devices.items()} == {
        "tag-1": False,
        "tag-2": True,
        "tag-3": False,
    }


async def test_what_this_life_has_is_left_alone(devices: Devices) -> None:
    ours = StaleConnections(BluezConnections())
    ours.hold(devices["tag-1"].address)
    await ours.clear([Target(name="tag-1")])
    assert devices["tag-1"].connected
    ours.let_go(devices["tag-1"].address)
    await ours.clear([Target(name="tag-1")])
    assert not devices["tag-1"].connected


async def test_one_whose_bond_has_given_it_another_address_is_still_ours(devices: Devices) -> None:
    ours = StaleConnections(BluezConnections())
    ours.hold("5C:00:00:00:00:01", devices["tag-1"].path)
    await ours.clear([Target(name="tag-1")])
    assert devices["tag-1"].connected


async def test_what_cannot_be_ended_is_no_reason_to_fail(devices: Devices) -> None:
    devices["tag-1"].is_stuck = True
    await StaleConnections(BluezConnections()).clear([Target(name="tag-1"), Target(name="tag-2")])
    assert {name: one.connected for name, one in devices.items()} == {
        "tag-1": True,
        "tag-2": False,
        "tag-3": False,
    }
    with pytest.raises(BleakError, match="stuck"):
        await BluezConnections().disconnect(Connected(devices["tag-1"].path, ""))


async def test_a_bluez_that_hangs_holds_nobody_up(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale_connections, "CLEAR_LIMIT_S", 0.1)
    devices["tag-1"].hangs = True
    await StaleConnections(BluezConnections()).clear([Target(name="tag-1")])
    assert devices["tag-1"].connected


async def test_a_pairing_has_our_consent_and_nothing_else_has(devices: Devices) -> None:
    assert not await _pair(devices["tag-1"])
    assert devices["tag-1"].is_paired


async def test_a_bond_that_is_there_is_all_that_is_wanted(devices: Devices) -> None:
    devices["tag-1"].is_paired = True
    assert await _pair(devices["tag-1"])


async def test_a_pairing_that_fails_is_told(devices: Devices) -> None:
    devices["tag-1"].is_stuck = True
    with pytest.raises(BleakError, match="AuthenticationFailed"):
        await _pair(devices["tag-1"])


async def test_the_adapters_by_address(devices: Devices) -> None:
    assert devices
    assert await BluezConnections().adapters() == {"DC:A6:32:00:00:01": "hci0"}


async def test_what_is_remembered_of_a_device_is_dropped_unless_there_is_a_bond(devices: Devices) -> None:
    devices["tag-2"].is_paired = True
    for name in ("tag-1", "tag-2"):
        await BluezConnections().forget(_heard(devices[name]))
    assert devices["tag-1"].adapter.removed == [devices["tag-1"].path]


async def _pair(device: Device1) -> bool:
    heard = _heard(device)
    return await BluezConnections().pair(BleakClient(heard), heard)


def _heard(device: Device1) -> BLEDevice:
    return BLEDevice(device.address, device.label, {"path": device.path}, **OLD_DEVICE)


# dbus-fast 2.44 leaves the socket to the collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
async def test_without_bluez_there_is_nothing_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    await StaleConnections(BluezConnections()).clear([Target(name="tag-1")])
