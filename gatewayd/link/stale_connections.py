"""Close stale connections from a previous run.

If gatewayd is killed during a transfer, BlueZ keeps the connection. A connected device does not advertise, so
it would never be heard again. So connections to our devices that this process did not make are closed, at
start and before seeking a device.
"""

import asyncio
import contextlib
from collections.abc import Collection

import structlog

from gatewayd.link.bluetooth import FOREIGN
from gatewayd.link.bluez import Connected, Connections
from gatewayd.link.target import Target

# BlueZ takes two seconds to close a connection.
CLEAR_LIMIT_S = 10.0

log = structlog.get_logger()


class StaleConnections:
    """Knows which connections this process holds; one instance for all adapters."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._held: set[str] = set()

    def hold(self, address: str) -> None:
        """Note that a connection to this address is ours."""
        self._held.add(address.upper())

    def let_go(self, address: str) -> None:
        """Note that we have no connection to this address any more."""
        self._held.discard(address.upper())

    async def clear(self, targets: Collection[Target]) -> None:
        """Close connections to targets that are not ours. Never raises: without BlueZ there are none."""
        with contextlib.suppress(*FOREIGN):
            async with asyncio.timeout(CLEAR_LIMIT_S):
                for device in await self._connections.connected():
                    if any(self._is_left(device, target) for target in targets):
                        await self._end(device)

    async def _end(self, device: Connected) -> None:
        try:
            await self._connections.disconnect(device)
        except FOREIGN as error:
            log.warning(
                "cannot close a stale connection from a previous run",
                address=device.address,
                reason=str(error),
            )
        else:
            log.info("closed a stale connection from a previous run", address=device.address)

    def _is_left(self, device: Connected, target: Target) -> bool:
        is_ours = device.address.upper() in self._held
        return not is_ours and target.fits(device.address, {device.name}, device.service_data)
