"""A link in memory to the model of an SMP device, in virtual time."""

import asyncio
import math

from gatewayd.errors import LinkError, LinkLost
from gatewayd.link.base import LeadsToOne
from gatewayd.simulator.smp.server import ServerProfile, SmpServer
from gatewayd.simulator.smp.slots import Slots
from lab.jobs import clock
from lab.smp.memory import HANG

_POLL_S = 0.05
WATCHDOG_S = 5.0
ORDINARY = ServerProfile()
BOOT_S = ORDINARY.boot_s


class SmpDevice:
    """A device with a watchdog: it restarts when its application hangs. `images` are those it started."""

    def __init__(self, flash: Slots, *, vanishes: bool = False, profile: ServerProfile = ORDINARY) -> None:
        self.server = SmpServer(flash, profile, clock() - 1.0)  # it has booted
        self.vanishes = vanishes
        self.images: list[bytes] = [flash.primary]
        self._boots = self.server.boots
        self.disturbances = 0  # pieces that it was sent while it booted
        self._booted_at = clock() - 1.0

    @property
    def boots(self) -> int:
        """How often it has booted by now; lets its own time pass."""
        now = clock()
        self.server.receive_data(b"", now)
        is_hanging = HANG in self.server.slots.primary and now >= self._booted_at + WATCHDOG_S
        if is_hanging and self.server.boots == self._boots:
            self.server.power_cut(now)
        if self.server.boots != self._boots:
            self._boots, self._booted_at = self.server.boots, now
            self.images.append(self.server.slots.primary)
        return self._boots

    def hear(self, data: bytes) -> None:
        """Take bytes from the line: a bootloader that waits for an update would stay because of them."""
        self.disturbances += self.boots > 1 and clock() < self._booted_at + BOOT_S
        self.server.receive_data(data, clock())

    @property
    def is_up(self) -> bool:
        """Whether the port of its own USB is there."""
        return not self.vanishes or (self.boots > 0 and clock() >= self._booted_at + BOOT_S)


class SmpLink(LeadsToOne):
    """See Link. Where the device vanishes, each of its boots ends the link."""

    is_datagram = False
    max_datagram = None

    def __init__(self, device: SmpDevice) -> None:
        self._device = device
        self.vanishes_with_device = device.vanishes
        self._boots = 0

    async def open(self) -> None:
        await asyncio.sleep(0)
        if not self._device.is_up:
            raise LinkError("/dev/sensor does not exist", code="link_missing")
        self._boots = self._device.boots

    async def close(self) -> None:
        pass

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        assert not confirmed
        await asyncio.sleep(0.001)
        self._require_port()
        self._device.hear(data)

    async def receive(self) -> bytes:
        while True:
            self._require_port()
            if data := self._device.server.data_to_send(clock()):
                return data
            due = self._device.server.next_deadline()
            left = _POLL_S if due == math.inf else max(0.001, due - clock())
            await asyncio.sleep(min(left, _POLL_S))

    async def set_baud(self, baud: int) -> None:
        raise AssertionError(baud)

    def _require_port(self) -> None:
        if self._device.boots != self._boots and self._device.vanishes:
            raise LinkLost("/dev/sensor is gone")
