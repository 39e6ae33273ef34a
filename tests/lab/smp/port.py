"""A board in QEMU behind a serial port: a pty that stays when its power goes, and a paced line."""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any, Self

from suites.bench.paced_relay import PacedRelay

from gatewayd.simulator.line import LineProfile
from gatewayd.simulator.terminal import Terminal
from gatewayd.simulator.uart import make_clock
from lab.smp.qemu import Board

BAUD = 115_200
LINE = LineProfile(BAUD / 10, 0.002)


class _Tap:
    """The board's end of the line, which a test can cut; counts what passes."""

    def __init__(self, uart: socket.socket) -> None:
        self._uart = uart
        self.is_cut = False
        self.to_board = 0
        self.said = bytearray()  # by the board

    def fileno(self) -> int:
        return self._uart.fileno()

    def sendall(self, data: bytes) -> None:
        self.to_board += len(data)
        if not self.is_cut:
            self._uart.sendall(data)

    def recv(self, size: int) -> bytes:
        data = self._uart.recv(size)
        if data and self.is_cut:
            raise BlockingIOError
        self.said += data
        return data

    def close(self) -> None:
        self._uart.close()


class BoardPort:
    """See the module's text. Use as an async context manager."""

    def __init__(self, board: Board, path: Path, line: LineProfile = LINE) -> None:
        self.board = board
        self.path = path
        self._line = line
        self._terminal = Terminal(path, BAUD)
        self._relay: asyncio.Task[None] | None = None
        self.tap: _Tap | None = None
        self.sent = 0  # bytes that the gateway has sent before the last power cut

    async def __aenter__(self) -> Self:
        await self.switch_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end_relay()
        await self.board.close()
        self._terminal.close()

    @property
    def total_sent(self) -> int:
        """Bytes that the gateway has sent."""
        return self.sent + (self.tap.to_board if self.tap else 0)

    async def switch_on(self) -> None:
        """Give it power. What was said while it had none is lost."""
        uart = await self.board.switch_on()
        while self._terminal.read(4096):
            pass
        self.tap = _Tap(uart)
        self._terminal.free_after_crash()
        self._relay = asyncio.create_task(self._run(self.tap))

    async def cut_power(self, off_s: float = 0.5) -> None:
        """Take its power, and give it back a little later."""
        await self.board.cut_power()
        await self._end_relay()
        await asyncio.sleep(off_s)
        await self.switch_on()

    async def cut_line(self, seconds: float) -> None:
        """Let nothing through for a while, in either direction."""
        assert self.tap is not None
        self.tap.is_cut = True
        await asyncio.sleep(seconds)
        self.tap.is_cut = False

    async def until_sent(self, size: int) -> None:
        """Wait until the gateway has sent that much since now."""
        wanted = self.total_sent + size
        while self.total_sent < wanted:  # noqa: ASYNC110 - the tap is another after each power cut
            await asyncio.sleep(0.01)

    def forget_said(self) -> None:
        """What the board has printed so far does not count."""
        if self.tap is not None:
            self.tap.said.clear()

    async def until_said(self, text: bytes) -> None:
        """Wait until the board has printed something since it was switched on."""
        while self.tap is None or text not in self.tap.said:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.002)

    def after_kill(self) -> None:
        """A gateway that was killed holds the port no longer."""
        self._terminal.free_after_crash()

    async def _run(self, tap: _Tap) -> None:
        far: Any = tap  # what a relay needs of a socket
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            await PacedRelay(self._terminal, far, self._line, make_clock()).run()

    async def _end_relay(self) -> None:
        if self._relay is not None:
            self._relay.cancel()
            await asyncio.wait([self._relay])
        if self.tap is not None:
            self.sent += self.tap.to_board
            self.tap.close()
        self._relay = self.tap = None
