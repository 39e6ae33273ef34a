"""BlueZ over D-Bus, for what bleak has no call for: who is connected to this machine, and to end that.

bleak's own way to BlueZ is dbus-fast, so it is there.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bleak.exc import BleakError
from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, InvalidAddressError

_NAME = "org.bluez"
_DEVICE = "org.bluez.Device1"


@dataclass(frozen=True, slots=True)
class Connected:
    """A device that is connected to this machine. `path` is what BlueZ calls it."""

    path: str
    address: str
    name: str | None = None
    service_data: Mapping[str, bytes] = field(default_factory=dict)


class Connections(Protocol):
    """The connections of this machine, whoever made them. Raises what bleak raises."""

    async def connected(self) -> list[Connected]:
        """List the devices that are connected now."""

    async def disconnect(self, device: Connected) -> None:
        """End a connection; returns when it has ended."""


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
        bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    except (AuthError, InvalidAddressError) as error:
        raise BleakError(str(error)) from error
    try:
        yield bus
    finally:
        bus.disconnect()


async def _call(bus: MessageBus, path: str, interface: str, member: str) -> list[Any]:
    message = Message(destination=_NAME, path=path, interface=interface, member=member)
    reply = await bus.call(message)
    if reply is None or reply.message_type is MessageType.ERROR:
        raise BleakError(*([reply.error_name, *reply.body] if reply else ["NoReply"]))
    return list(reply.body)
