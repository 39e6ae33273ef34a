"""Many C receivers in one process, each on a pty whose line has a rate and a latency.

A process for each would take more of the machine than the gateway that is measured. Here a line carries what
was written at once as one piece, so that a device wakes up once a frame and not every 2 ms.
"""

import heapq
import itertools
import math
import select
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from lab.rcp.devices import DEVICES, PROFILE, Device

from gatewayd.simulator.terminal import Terminal

BITS_PER_BYTE = 10
_MOST_READ = 65536


class _Line:
    """A device on its pty, and until when each direction is taken."""

    def __init__(self, port: Path, device: Device, baud: int) -> None:
        self.terminal = Terminal(port, baud)
        self.device = device
        self.to_device = self.to_gateway = 0.0
        self.due = math.inf  # when it looks at its clock next


class Devices:
    """Carries what is due, until the process is killed."""

    def __init__(self, folder: Path, count: int, rate: int, latency_s: float) -> None:
        baud = rate * BITS_PER_BYTE
        profile = replace(PROFILE, slot_size=1 << 19, base_baud=baud, window=4096, rx_ring=8192)
        self._rate, self._latency_s = rate, latency_s
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._poll = select.epoll()
        self._lines: dict[int, _Line] = {}
        for number in range(count):
            line = _Line(folder / f"port-{number}", DEVICES["c"](profile), baud)
            self._lines[line.terminal.master] = line
            self._poll.register(line.terminal.master, select.EPOLLIN)

    def run(self) -> None:
        """Carry for ever."""
        while True:
            wait_s = max(0.0, self._agenda[0][0] - time.monotonic()) if self._agenda else None
            for fd, _ in self._poll.poll(wait_s):
                self._read(self._lines[fd], time.monotonic())
            while self._agenda and self._agenda[0][0] <= time.monotonic():
                heapq.heappop(self._agenda)[2]()

    def _at(self, at: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._numbers), action))

    def _read(self, line: _Line, now: float) -> None:
        data = line.terminal.read(_MOST_READ)
        line.to_device = max(line.to_device, now) + len(data) / self._rate
        at = line.to_device + self._latency_s
        self._at(at, partial(self._hear, line, data, at))

    def _hear(self, line: _Line, data: bytes, now: float) -> None:
        """Let a device hear what has arrived, look at its clock, and say what it has to."""
        if data:
            line.device.receive_data(data, now)
        elif now >= line.due:
            line.due = math.inf
        due = line.device.next_deadline()
        if due is not None and due <= now:
            line.device.handle_timeout(now)
        while said := line.device.data_to_send(now):
            line.to_gateway = max(line.to_gateway, now) + len(said) / self._rate
            self._at(line.to_gateway + self._latency_s, partial(line.terminal.write, said))
        due = line.device.next_deadline()
        if due is not None and due < line.due:
            line.due = due
            self._at(due, partial(self._hear, line, b"", due))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("count", type=int)
@click.argument("rate", type=int)
@click.argument("latency_s", type=float)
def main(folder: Path, count: int, rate: int, latency_s: float) -> None:
    """Be so many devices."""
    Devices(folder, count, rate, latency_s).run()


if __name__ == "__main__":
    main()
