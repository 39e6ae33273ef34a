"""A virtual device behind a virtual radio: the Python receiver, as a GATT peripheral."""

import asyncio
import random
from typing import Any

from bumble_radio import Air, Peripheral

from gatewayd.protocol.rcp.packets import SHORT_OVERHEAD
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver

SHORT = 0x80


class Tag:
    """A device. `receiver` is what it is; it restarts as a real one does: its connections end.

    `cut_after`: bytes of the image after which the connection ends, once; `dies_after`: after which nothing
    arrives any more, until there is another connection, once.
    """

    def __init__(self, peripheral: Peripheral, receiver: Receiver) -> None:
        self.peripheral = peripheral
        self.receiver = receiver
        self.data_bytes = 0
        self.cut_after: int | None = None
        self.dies_after: int | None = None
        self.is_deaf = False
        self.drops = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._speaking = asyncio.create_task(self._speak())
        peripheral.on_frame = self._hear
        peripheral.on_connected = self._connected

    @classmethod
    async def at(cls, air: Air, name: str, address: str, profile: DeviceProfile, **settings: Any) -> "Tag":
        """Put a device into the air. Settings are those of a Peripheral."""
        peripheral = await air.peripheral(name, address, **settings)
        ids = random.Random(address)
        boot_ids = iter(lambda: ids.randrange(1, 2**32), 0)
        return cls(peripheral, Receiver(profile, boot_ids=boot_ids, now=asyncio.get_running_loop().time()))

    async def close(self) -> None:
        self._speaking.cancel()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.wait([self._speaking])

    def _connected(self, max_datagram: int) -> None:
        self.is_deaf = False
        self.receiver.connect(max_datagram)

    def _hear(self, packet: bytes) -> None:
        if packet[0] & SHORT:
            self.data_bytes += len(packet) - SHORT_OVERHEAD
        if self.cut_after is not None and self.data_bytes >= self.cut_after:
            self.cut_after = None
            self._drop()
        if self.dies_after is not None and self.data_bytes >= self.dies_after:
            self.dies_after, self.is_deaf = None, True
        if self.is_deaf or self.peripheral.connection is None:
            return
        self.receiver.receive_data(packet, self._loop.time())
        self._turn()

    def _turn(self) -> None:
        now = self._loop.time()
        due = self.receiver.next_deadline()
        if due is not None and due <= now:
            self.receiver.handle_timeout(now)
        if not self.receiver.is_on:
            self._drop()
        while packet := self.receiver.data_to_send(now):
            self._outbox.put_nowait(packet)
        if self._timer is not None:
            self._timer.cancel()
        due = self.receiver.next_deadline()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - now), self._turn)

    def _drop(self) -> None:
        if self.peripheral.connection is not None:
            self.drops += 1
            self._loop.create_task(self.peripheral.drop())

    async def _speak(self) -> None:
        while True:
            await self.peripheral.notify(await self._outbox.get())
