"""A serial line between a pty and a Unix socket, paced and delayed as a virtual device's line is.

QEMU's own pty has neither a speed nor a latency, and holds a frame's last byte back; its socket has no such
habit. So the peer's server speaks into a socket, and its client opens the pty that this process makes. The
line is the simulator's (`gatewayd.simulator.line`), the same that RCP is measured over.
"""

import asyncio
import random
import socket
from collections.abc import Callable
from pathlib import Path

import click

from gatewayd.simulator.line import Line, LineProfile
from gatewayd.simulator.terminal import Terminal
from gatewayd.simulator.uart import make_clock

_MOST_READ = 65536


class PacedRelay:
    """Carries bytes both ways until the socket ends. `far` is connected and does not block."""

    def __init__(
        self, terminal: Terminal, far: socket.socket, profile: LineProfile, clock: Callable[[], float]
    ) -> None:
        self._terminal = terminal
        self._far = far
        self._clock = clock
        self._to_far = Line(profile, random.Random(1))
        self._to_terminal = Line(profile, random.Random(2))
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Return when the socket's other end closes. Raises what went wrong."""
        self._loop.add_reader(self._far, self._turn)
        self._turn()
        try:
            await self._ended
        finally:
            self._loop.remove_reader(self._far)
            self._loop.remove_reader(self._terminal.master)
            if self._timer is not None:
                self._timer.cancel()

    def _turn(self) -> None:
        """Do everything that is due, and come back when the next thing is."""
        if self._ended.done():
            return
        try:
            now = self._clock()
            if room := self._to_far.room(now):
                self._to_far.pulled(room, self._terminal.read(room), now, 0)
            for data, _ in self._to_far.arrived(now):
                self._far.sendall(data)
            self._hear(now)
            for data, _ in self._to_terminal.arrived(now):
                self._terminal.write(data)
            self._wait(now)
        except Exception as error:  # noqa: BLE001 - a callback's error would only be logged; `run` raises it
            self._ended.set_exception(error)

    def _hear(self, now: float) -> None:
        try:
            data = self._far.recv(_MOST_READ)
        except BlockingIOError:
            return
        if data:
            self._to_terminal.put(data, now, 0)
        else:
            self._ended.set_result(None)

    def _wait(self, now: float) -> None:
        due = [self._to_far.next_arrival(), self._to_terminal.next_arrival()]
        if self._to_far.room(now):
            self._loop.add_reader(self._terminal.master, self._turn)
        else:
            self._loop.remove_reader(self._terminal.master)
            due.append(self._to_far.free_at())
        if self._timer is not None:
            self._timer.cancel()
        times = [at for at in due if at is not None]
        self._timer = self._loop.call_later(max(0.0, min(times) - now), self._turn) if times else None


async def _relay(port: Path, server: Path, profile: LineProfile, baud: int) -> None:
    terminal = Terminal(port, baud)
    try:
        with socket.socket(socket.AF_UNIX) as far:
            far.connect(str(server))
            far.setblocking(False)
            await PacedRelay(terminal, far, profile, make_clock()).run()
    finally:
        terminal.close()


@click.command()
@click.option("--port", required=True, type=click.Path(path_type=Path), help="Becomes a link to the pty.")
@click.option("--server", required=True, type=click.Path(path_type=Path), help="The Unix socket.")
@click.option("--rate", required=True, type=float, help="Bytes per second.")
@click.option("--latency-ms", required=True, type=float, help="Each direction.")
@click.option("--baud", required=True, type=int, help="What the pty says of its speed.")
def main(port: Path, server: Path, rate: float, latency_ms: float, baud: int) -> None:
    """Join a pty and a socket until the socket's other end closes."""
    asyncio.run(_relay(port, server, LineProfile(rate, latency_ms / 1000), baud))


if __name__ == "__main__":
    main()
