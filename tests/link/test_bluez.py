# ruff: noqa: F722, F821, N802 - D-Bus wants its signatures as annotations, and its names
"""What is asked of BlueZ, over a real D-Bus with a stand-in for BlueZ on it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bleak.exc import BleakError
from dbus_fast import BusType, DBusError, PropertyAccess, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_property, method

from gatewayd.link import leftovers
from gatewayd.link.bluez import BluezConnections, Connected
from gatewayd.link.leftovers import Leftovers
from gatewayd.link.target import Target

CONFIG = """<busconfig><type>session</type><listen>unix:path={0}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"""
UUID = "c1b70001-3e5a-4d8b-9f06-67617465776d"


class Device1(ServiceInterface):
    """A device as BlueZ has it."""

    def __init__(self, address: str, label: str, *, connected: bool) -> None:
        super().__init__("org.bluez.Device1")
        self.path = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
        self.address, self.label, self.connected = address, label, connected
        self.is_stuck = self.hangs = False

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
            bus.disconnect()
        finally:
            daemon.terminate()


async def stand_in_for_bluez(bus: MessageBus) -> Devices:
    made = [
        Device1("C0:FF:EE:00:00:01", "tag-1", connected=True),
        Device1("C0:FF:EE:00:00:02", "tag-2", connected=True),
        Device1("C0:FF:EE:00:00:03", "tag-3", connected=False),
    ]
    for one in made:
        bus.export(one.path, one)
    await bus.request_name("org.bluez")
    return {one.label: one for one in made}


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
    await Leftovers(BluezConnections()).clear([Target(name="somebody"), target])
    assert {name: one.connected for name, one in devices.items()} == {
        "tag-1": False,
        "tag-2": True,
        "tag-3": False,
    }


async def test_what_this_life_has_is_left_alone(devices: Devices) -> None:
    ours = Leftovers(BluezConnections())
    ours.hold(devices["tag-1"].address)
    await ours.clear([Target(name="tag-1")])
    assert devices["tag-1"].connected
    ours.let_go(devices["tag-1"].address)
    await ours.clear([Target(name="tag-1")])
    assert not devices["tag-1"].connected


async def test_what_cannot_be_ended_is_no_reason_to_fail(devices: Devices) -> None:
    devices["tag-1"].is_stuck = True
    await Leftovers(BluezConnections()).clear([Target(name="tag-1"), Target(name="tag-2")])
    assert {name: one.connected for name, one in devices.items()} == {
        "tag-1": True,
        "tag-2": False,
        "tag-3": False,
    }
    with pytest.raises(BleakError, match="stuck"):
        await BluezConnections().disconnect(Connected(devices["tag-1"].path, ""))


async def test_a_bluez_that_hangs_holds_nobody_up(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "CLEAR_LIMIT_S", 0.1)
    devices["tag-1"].hangs = True
    await Leftovers(BluezConnections()).clear([Target(name="tag-1")])
    assert devices["tag-1"].connected


# dbus-fast 2.44 leaves the socket to the collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
async def test_without_bluez_there_is_nothing_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    await Leftovers(BluezConnections()).clear([Target(name="tag-1")])
