"""What a former life of ours has left connected.

Killed in mid-transfer we leave a connection that BlueZ keeps, and who is connected does not advertise: the
device would not be heard any more. So a connection to one of our devices that this process has not made is
ended, at start and before the device is looked for.
"""

import asyncio
import contextlib
from collections.abc import Collection

import structlog

from gatewayd.link.bluetooth import FOREIGN
from gatewayd.link.bluez import Connected, Connections
from gatewayd.link.target import Target

# To end a connection takes BlueZ two seconds.
CLEAR_LIMIT_S = 10.0

log = structlog.get_logger()


class StaleConnections:
    """Knows what this process holds; one for all adapters."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._held: dict[str, str] = {}

    def hold(self, address: str, path: str = "") -> None:
        """From now on a connection to it is ours; its `path` stays when a bond gives it another address."""
        self._held[address.upper()] = path

    def let_go(self, address: str) -> None:
        """We have no connection to it any more."""
        self._held.pop(address.upper(), None)

    async def clear(self, targets: Collection[Target]) -> None:
        """End connections to targets that are not ours. Never raises: without BlueZ there is none."""
        with contextlib.suppress(*FOREIGN):
            async with asyncio.timeout(CLEAR_LIMIT_S):
                for device in await self._connections.connected():
                    if any(self._is_left(device, target) for target in targets):
                        await self._end(device)

    async def _end(self, device: Connected) -> None:
        try:
            await self._connections.disconnect(device)
        except FOREIGN as error:
            log.warning("a connection of a former life remains", address=device.address, reason=str(error))
        else:
            log.info("ended a connection of a former life", address=device.address)

    def _is_left(self, device: Connected, target: Target) -> bool:
        is_ours = device.address.upper() in self._held or device.path in self._held.values()
        return not is_ours and target.fits(device.address, {device.name}, device.service_data)
