"""A virtual device on a radio: it drives a GATT peripheral and what speaks the protocol.

A device that restarts disappears: its connection ends, and it does not advertise until it has booted.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gatewayd.simulator.peripheral import Peripheral


class RadioDevice(Protocol):
    """What runs on a peripheral, such as a Receiver; all methods as a Receiver has them."""

    @property
    def is_on(self) -> bool:
        """Whether it runs; False while it boots."""

    def connect(self, max_datagram: int) -> None:
        """A gateway has connected."""

    def receive_data(self, data: bytes, now: float) -> None:
        """Take one packet."""

    def data_to_send(self, now: float) -> bytes:
        """Return the next packet, or nothing."""

    def next_deadline(self) -> float | None:
        """When something is due next."""

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""

    def power_cut(self, now: float) -> None:
        """Off and on again."""


class VirtualBle:
    """Runs a device on a peripheral that is already advertising.

    `power_cut_after`: received bytes until the power fails, once.
    """

    def __init__(
        self,
        receiver: RadioDevice,
        peripheral: Peripheral,
        *,
        clock: Callable[[], float],
        power_cut_after: int | None = None,
    ) -> None:
        self.receiver = receiver
        self.peripheral = peripheral
        self._clock = clock
        self._until_cut = power_cut_after
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        peripheral.on_frame = self._hear
        peripheral.on_connected = self._connected
        peripheral.on_disconnected = self._changed.set

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set."""
        parts = [
            asyncio.ensure_future(part)
            for part in (stop.wait(), self._speak(), self._appear_and_vanish(), self._failed)
        ]
        try:
            self._turn()
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            if self._timer is not None:
                self._timer.cancel()
        for part in done:
            part.result()

    def cut_power(self) -> None:
        """Let the power fail now, and return."""
        self.receiver.power_cut(self._clock())
        self._turn()

    def _connected(self, max_datagram: int) -> None:
        self.receiver.connect(max_datagram)

    def _hear(self, packet: bytes) -> None:
        if self.peripheral.connection is None:  # it was in flight when the connection ended
            return
        now = self._clock()
        if self._until_cut is not None:
            self._until_cut -= len(packet)
        if self._until_cut is not None and self._until_cut <= 0:
            self._until_cut = None
            self.receiver.power_cut(now)
        else:
            self.receiver.receive_data(packet, now)
        self._turn()

    def _turn(self) -> None:
        """Do everything that is due, and schedule the next turn."""
        try:
            now = self._clock()
            was_on = self.receiver.is_on
            due = self.receiver.next_deadline()
            if due is not None and due <= now:
                self.receiver.handle_timeout(now)
            if not (was_on and self.receiver.is_on):
                self._changed.set()
            while packet := self.receiver.data_to_send(now):
                self._outbox.put_nowait(packet)
            self._wait(now)
        except Exception as error:  # noqa: BLE001 - a callback's error would only be logged; `run` raises it
            self._failed.set_exception(error)

    def _wait(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self.receiver.next_deadline()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - now), self._turn)

    async def _speak(self) -> None:
        while True:
            await self.peripheral.notify(await self._outbox.get())

    async def _appear_and_vanish(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self.receiver.is_on:
                await self.peripheral.fall_silent()
            elif self.peripheral.connection is None:
                await self.peripheral.advertise()
