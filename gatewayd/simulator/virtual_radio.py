"""Radios by Google's bumble: virtual controllers that hear each other, or a real controller.

bumble is not in Debian and nothing else here needs it: `pip install 'gatewayd[simulate-ble]'`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

from bumble import hci
from bumble.controller import Controller
from bumble.core import BaseBumbleError, PhysicalTransport
from bumble.device import Device
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport import open_transport
from bumble.transport.common import AsyncPipeSink

from gatewayd.errors import HostError

# The largest packet of a connection with data length extension. The default costs 3.5 times the CPU.
ACL_BYTES = 251
# A controller that is there answers its reset within a second.
_POWER_ON_S = 10.0
# The transport that is no controller: it gives one to this machine's kernel, which wants it simple.
_VHCI = "vhci"
_TOO_MUCH_FOR_BLUEZ = hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING


class Link(LocalLink):
    """Sends what a connection carries under the address that the connection was made with.

    bumble's own takes the controller's present one, and Linux takes another for each scan.
    """

    def send_acl_data(
        self, sender: Controller, destination: hci.Address, transport: PhysicalTransport, data: bytes
    ) -> None:
        """See LocalLink."""
        connection, receiver = sender.le_connections.get(destination), self.find_le_controller(destination)
        if connection is not None and receiver is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon(receiver.on_link_acl_data, connection.self_address, transport, data)


class Air:
    """A place in which virtual controllers hear each other."""

    def __init__(self) -> None:
        self._link = Link()  # type: ignore[no-untyped-call]  # bumble has not written its types down
        self._numbers = count(1)
        self._devices: list[Device] = []

    def controller(self, name: str, address: str | None = None, **host: Any) -> Controller:
        """Add a controller. `host_source`, `host_sink`: the transport to its host."""
        controller = self._make_controller(name, link=self._link, public_address=address, **host)
        controller.le_acl_data_packet_length = ACL_BYTES
        return controller

    async def device(self, name: str, address: str | None = None) -> Device:
        """Put a controller and a host there."""
        own = hci.Address(address or f"C0:FF:EE:00:01:{next(self._numbers):02X}")
        controller = self.controller(name, own.to_string(False))
        device = Device(name=name, address=own, host=Host(controller, AsyncPipeSink(controller)))
        await device.power_on()
        self._devices.append(device)
        return device

    def lend(self, source: Any, sink: Any) -> Controller:
        """Put a controller there for this machine's kernel, behind an open vhci transport."""
        controller = self.controller("lent", host_source=source, host_sink=sink)
        controller.le_features &= ~_TOO_MUCH_FOR_BLUEZ
        return controller

    async def close(self) -> None:
        """Switch everything off."""
        for device in self._devices:
            with contextlib.suppress(Exception):
                await device.power_off()

    def _make_controller(self, name: str, **parts: Any) -> Controller:
        return Controller(name, **parts)


@contextlib.asynccontextmanager
async def device_on(controller: str, name: str, address: str) -> AsyncIterator[Device]:
    """Use a controller by bumble's name for the way to it (usb:0, hci-socket:0, serial:…, vhci).

    Raises HostError `controller_unusable`.
    """
    try:
        transport = await open_transport(controller)
    except (BaseBumbleError, OSError, ValueError, ImportError) as error:
        raise _unusable(controller, str(error) or type(error).__name__) from error
    async with transport:
        air = Air()
        if controller.partition(":")[0] == _VHCI:
            air.lend(transport.source, transport.sink)
            device = await air.device(name, address)
        else:
            device = Device.with_hci(name, hci.Address(address), transport.source, transport.sink)
            await _power_on(device, controller)
        yield device


async def _power_on(device: Device, controller: str) -> None:
    try:
        async with asyncio.timeout(_POWER_ON_S):
            await device.power_on()
    except TimeoutError:
        raise _unusable(controller, f"it does not answer within {_POWER_ON_S:.0f} s") from None
    except BaseBumbleError as error:
        raise _unusable(controller, str(error)) from error


def _unusable(controller: str, why: str) -> HostError:
    return HostError(
        f"cannot use the Bluetooth controller {controller}: {why}",
        code="controller_unusable",
        hint="is it there, may it be opened, and does BlueZ leave it alone (`bluetoothctl power off`)?",
    )
