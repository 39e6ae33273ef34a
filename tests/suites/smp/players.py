"""Who a script is played to: a board in QEMU, recorded, and the model."""

import asyncio
import socket
from dataclasses import dataclass, field

from lab.smp.qemu import Board

from gatewayd.protocol.smp.console import ConsoleDeframer
from gatewayd.protocol.smp.frames import Frame
from gatewayd.simulator.smp.server import SmpServer

_BOOT_S = 1.5
# It prints its log after the answer, and loses what arrives meanwhile.
_LOG_S = 0.15


@dataclass
class RealServer:
    """A board; `said` is what went over its UART, with seconds since the start."""

    board: Board
    said: list[tuple[float, str, bytes]] = field(default_factory=list)
    _uart: socket.socket | None = None
    _began: float = 0.0

    async def start(self) -> None:
        """Switch it on."""
        self._began = asyncio.get_running_loop().time()
        self._uart = await self.board.switch_on()
        await self._hear(_BOOT_S)

    async def close(self) -> None:
        """End the board."""
        if self._uart is not None:
            self._uart.close()
        await self.board.close()

    async def ask(self, wire: bytes, seconds: float, *, is_repeatable: bool = False) -> list[Frame]:
        """See Server."""
        assert self._uart is not None
        self._note(">", wire)
        await asyncio.get_running_loop().sock_sendall(self._uart, wire)
        answers = await self._hear(seconds, ends_with_answer=True)
        if not answers and is_repeatable:  # on a loaded machine it loses lines
            await asyncio.get_running_loop().sock_sendall(self._uart, wire)
            answers = await self._hear(seconds, ends_with_answer=True)
        return answers + await self._hear(_LOG_S)

    async def power_cut(self) -> None:
        """See Server."""
        assert self._uart is not None
        await self.board.cut_power()
        self._uart.close()
        self._uart = await self.board.switch_on()
        await self._hear(_BOOT_S)

    async def wait(self, seconds: float) -> None:
        """See Server."""
        await self._hear(seconds)

    async def _hear(self, seconds: float, *, ends_with_answer: bool = False) -> list[Frame]:
        assert self._uart is not None
        loop = asyncio.get_running_loop()
        deframer, ends = ConsoleDeframer(), loop.time() + seconds
        found: list[Frame] = []
        while (left := ends - loop.time()) > 0 and not (found and ends_with_answer):
            try:
                async with asyncio.timeout(left):
                    data = await loop.sock_recv(self._uart, 4096)
            except TimeoutError:
                break
            self._note("<", data)
            found += [Frame.from_bytes(one) for one in deframer.feed(data) if isinstance(one, bytes)]
        return found

    def _note(self, way: str, data: bytes) -> None:
        self.said.append((asyncio.get_running_loop().time() - self._began, way, data))


@dataclass
class Model:
    """The model, with a clock of its own."""

    server: SmpServer
    now: float = 0.0

    async def ask(self, wire: bytes, seconds: float, *, is_repeatable: bool = False) -> list[Frame]:
        """See Server."""
        self.server.receive_data(wire, self.now)
        deframer = ConsoleDeframer()
        del seconds, is_repeatable
        self.now += 0.01
        found = deframer.feed(self.server.data_to_send(self.now))
        return [Frame.from_bytes(one) for one in found if isinstance(one, bytes)]

    async def power_cut(self) -> None:
        """See Server."""
        self.server.power_cut(self.now)
        await self.wait(_BOOT_S)

    async def wait(self, seconds: float) -> None:
        """See Server."""
        self.now += seconds
        self.server.data_to_send(self.now)
