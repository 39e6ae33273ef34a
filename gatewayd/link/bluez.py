"""BlueZ over D-Bus, for what bleak does not offer: other programs' connections, and consent to pairing.

BlueZ asks for consent to a pairing even if neither side can display or enter anything. On a machine without a
desktop nobody would answer, and each pairing would fail. So gatewayd pairs over its own D-Bus connection and
registers an agent on it, which BlueZ asks about this pairing and no other. bleak depends on dbus-fast, so it
is always installed.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bleak import BleakClient
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError
from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, InvalidAddressError

_NAME = "org.bluez"
_DEVICE = "org.bluez.Device1"
_AGENT = "org.bluez.Agent1"
_AGENTS = "org.bluez.AgentManager1"
_AGENT_PATH = "/gatewayd/agent"
_IS_ABOUT_US = ("RequestConfirmation", "RequestAuthorization")


@dataclass(frozen=True, slots=True)
class Connected:
    """A device that is connected to this machine. `path` is its D-Bus object path."""

    path: str
    address: str
    name: str | None = None
    service_data: Mapping[str, bytes] = field(default_factory=dict)


class Connections(Protocol):
    """All Bluetooth connections of this machine, also those of other programs. Raises the same as bleak."""

    async def connected(self) -> list[Connected]:
        """List the devices that are connected now."""

    async def disconnect(self, device: Connected) -> None:
        """End a connection; return when it has ended."""

    async def pair(self, client: BleakClient, device: BLEDevice) -> None:
        """Pair with a device that `client` is connected to, unless there is a bond already."""


class BluezConnections:
    """See Connections."""

    async def connected(self) -> list[Connected]:
        """See Connections."""
        manager = "org.freedesktop.DBus.ObjectManager"
        async with _system_bus() as bus:
            (objects,) = await _call(bus, "/", manager, "GetManagedObjects")
        devices = {path: about[_DEVICE] for path, about in objects.items() if _DEVICE in about}
        return [_device(path, facts) for path, facts in devices.items() if facts["Connected"].value]

    async def disconnect(self, device: Connected) -> None:
        """See Connections."""
        async with _system_bus() as bus:
            await _call(bus, device.path, _DEVICE, "Disconnect")

    async def pair(self, _: BleakClient, device: BLEDevice) -> None:
        """See Connections. The agent is unregistered when the D-Bus connection ends."""
        path = device.details["path"]
        async with _system_bus() as bus:
            bus.add_message_handler(_consent_to(path))
            await _call(bus, "/org/bluez", _AGENTS, "RegisterAgent", "os", _AGENT_PATH, "NoInputNoOutput")
            try:
                await _call(bus, path, _DEVICE, "Pair")
            except BleakError as error:
                if "org.bluez.Error.AlreadyExists" not in error.args:
                    raise


def _consent_to(path: str) -> Callable[[Message], Message | None]:
    """Return the agent: it consents to requests about one device, and to no others."""

    def answer(asked: Message) -> Message | None:
        if asked.path != _AGENT_PATH or asked.interface != _AGENT:
            return None
        if asked.member in _IS_ABOUT_US and asked.body[0] != path:
            return Message.new_error(asked, "org.bluez.Error.Rejected", "not paired by gatewayd now")
        if asked.member in (*_IS_ABOUT_US, "Cancel", "Release"):
            return Message.new_method_return(asked)
        return Message.new_error(asked, "org.bluez.Error.Rejected", "gatewayd has neither display nor keys")

    return answer


def _device(path: str, facts: dict[str, Any]) -> Connected:
    values = {key: variant.value for key, variant in facts.items()}
    said = values.get("ServiceData", {})
    return Connected(
        path,
        address=values["Address"],
        name=values.get("Name"),
        service_data={uuid: bytes(data.value) for uuid, data in said.items()},
    )


@contextlib.asynccontextmanager
async def _system_bus() -> AsyncIterator[MessageBus]:
    try:
        bus = MessageBus(bus_type=BusType.SYSTEM)
        try:
            await bus.connect()
        except BaseException:
            _close_files(bus)
            raise
    except (AuthError, InvalidAddressError) as error:
        raise BleakError(str(error)) from error
    try:
        yield bus
    finally:
        await close(bus)


async def close(bus: MessageBus) -> None:
    """End a connection to D-Bus and close its socket; dbus-fast 2.44 leaves that to the garbage collector."""
    bus.disconnect()
    with contextlib.suppress(Exception):  # the reason does not matter
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # until then the loop reads it
    _close_files(bus)


def _close_files(bus: MessageBus) -> None:
    for name in ("_stream", "_sock"):  # private; newer versions have closed both
        file = getattr(bus, name, None)
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


async def _call(
    bus: MessageBus, path: str, interface: str, member: str, signature: str = "", *body: str
) -> list[Any]:
    message = Message(_NAME, path, interface, member, signature=signature, body=list(body))
    reply = await bus.call(message)
    if reply is None or reply.message_type is MessageType.ERROR:
        raise BleakError(*([reply.error_name, *reply.body] if reply else ["NoReply"]))
    return list(reply.body)
