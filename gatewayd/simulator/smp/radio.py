"""A virtual SMP device as a radio has it: whole packets in both directions, and off while it boots.

A device that hangs does not even advertise.
"""

import math
from collections import deque

from gatewayd.simulator.smp.device import SmpDevice
from gatewayd.simulator.smp.server import SmpServer


class SmpRadio:
    """A server on a radio; see simulator.ble.RadioDevice."""

    def __init__(self, server: SmpServer | SmpDevice, now: float) -> None:
        self._server = server
        self._now = now
        self._packet = 0
        self._packets: deque[bytes] = deque()

    @property
    def is_on(self) -> bool:
        """Whether it runs."""
        return self._server.answers_from <= self._now

    def connect(self, max_datagram: int) -> None:
        """A gateway has connected, or has agreed on another size."""
        self._packet = max_datagram
        self._packets.clear()
        self._server.forget_line()

    def receive_data(self, data: bytes, now: float) -> None:
        """Take one packet."""
        self._now = now
        self._server.receive_data(data, now)

    def data_to_send(self, now: float) -> bytes:
        """Return the next packet, or nothing."""
        self._now = now
        if not self._packets and self._packet:
            data = self._server.data_to_send(now)
            self._packets.extend(data[at : at + self._packet] for at in range(0, len(data), self._packet))
        return self._packets.popleft() if self._packets else b""

    def next_deadline(self) -> float | None:
        """When something is due next, its first moment after a boot too."""
        due = self._server.next_deadline()
        due = math.inf if due is None else due
        if not self.is_on:
            due = min(due, self._server.answers_from)
        return None if due == math.inf else due

    def handle_timeout(self, now: float) -> None:
        """Let time pass: it may restart, or have booted."""
        self._now = now
        self._server.receive_data(b"", now)

    def power_cut(self, now: float) -> None:
        """Off and on again."""
        self._now = now
        self._server.power_cut(now)
