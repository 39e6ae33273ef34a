"""A device with Zephyr's SMP server on a virtual radio, and what befalls it."""

import asyncio
from typing import Any

from gatewayd.protocol.smp.kind import GATT
from gatewayd.protocol.smp.wire import Framing
from gatewayd.simulator.ble import VirtualBle
from gatewayd.simulator.peripheral import Peripheral
from gatewayd.simulator.smp.radio import SmpRadio
from gatewayd.simulator.smp.server import ServerProfile, SmpServer
from gatewayd.simulator.smp.slots import Slots
from lab.bumble_radio import Air
from lab.smp.memory import slots

BOOT_S = 0.1
ORDINARY = ServerProfile(framing=Framing.RAW, boot_s=BOOT_S, reset_s=0.05)


class SmpTag:
    """See the module's text. `cut_after`: bytes of an image after which the connection ends, once."""

    def __init__(self, peripheral: Peripheral, server: SmpServer) -> None:
        loop = asyncio.get_running_loop()
        self.peripheral = peripheral
        self.server = server
        self.cut_after: int | None = None
        self._loop = loop
        self._virtual = VirtualBle(SmpRadio(server, loop.time()), peripheral, clock=loop.time)
        self._running = asyncio.create_task(self._virtual.run(asyncio.Event()))
        self._deliver, peripheral.on_frame = peripheral.on_frame, self._hear

    @classmethod
    async def at(
        cls,
        air: Air,
        name: str,
        address: str,
        *,
        flash: Slots | None = None,
        profile: ServerProfile = ORDINARY,
        **settings: Any,
    ) -> "SmpTag":
        """Put a device into the air that has booted. Settings are those of a Peripheral."""
        peripheral = await air.peripheral(name, address, profile=GATT, **settings)
        booted = asyncio.get_running_loop().time() - profile.boot_s
        return cls(peripheral, SmpServer(flash or slots(), profile, booted))

    @property
    def runs(self) -> tuple[bytes, bool]:
        """The image that it runs, and whether that is confirmed."""
        return self.server.slots.primary, self.server.slots.is_confirmed

    def cut_power(self) -> None:
        """Off and on again."""
        self._virtual.cut_power()

    async def until_on_trial(self) -> None:
        """Wait until it has started a new image."""
        while not self.server.slots.trials:  # noqa: ASYNC110 - a count of the model
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Take it out of the air."""
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self._running.cancelled():
            self._running.result()

    def _hear(self, packet: bytes) -> None:
        if self.cut_after is not None and self.server.image_bytes >= self.cut_after:
            self.cut_after = None
            self._loop.create_task(self.peripheral.drop())
        else:
            self._deliver(packet)
