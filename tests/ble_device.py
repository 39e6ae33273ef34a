"""A virtual device on a virtual radio, with faults."""

import asyncio
import random
from typing import Any

from bumble_radio import Air

from gatewayd.protocol.rcp.packets import SHORT_OVERHEAD
from gatewayd.simulator.ble import VirtualBle
from gatewayd.simulator.peripheral import Peripheral
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver

SHORT = 0x80


class Tag(VirtualBle):
    """A device.

    `cut_after`: bytes of the image after which the connection ends, once; `dies_after`: after which nothing
    arrives any more, until there is another connection, once.
    """

    def __init__(self, receiver: Receiver, peripheral: Peripheral) -> None:
        super().__init__(receiver, peripheral, clock=asyncio.get_running_loop().time)
        self.data_bytes = 0
        self.cut_after: int | None = None
        self.dies_after: int | None = None
        self.is_deaf = False
        self._running = asyncio.create_task(self.run(asyncio.Event()))

    @classmethod
    async def at(cls, air: Air, name: str, address: str, profile: DeviceProfile, **settings: Any) -> "Tag":
        """Put a device into the air. Settings are those of a Peripheral."""
        ids = random.Random(address)
        boot_ids = iter(lambda: ids.randrange(1, 2**32), 0)
        receiver = Receiver(profile, boot_ids=boot_ids, now=asyncio.get_running_loop().time())
        return cls(receiver, await air.peripheral(name, address, **settings))

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self._running.cancelled():
            self._running.result()

    def _connected(self, max_datagram: int) -> None:
        self.is_deaf = False
        super()._connected(max_datagram)

    def _hear(self, packet: bytes) -> None:
        if packet[0] & SHORT:
            self.data_bytes += len(packet) - SHORT_OVERHEAD
        if self.cut_after is not None and self.data_bytes >= self.cut_after:
            self.cut_after = None
            self._loop.create_task(self.peripheral.drop())
        elif self.dies_after is not None and self.data_bytes >= self.dies_after:
            self.dies_after, self.is_deaf = None, True
        elif not self.is_deaf:
            super()._hear(packet)
