"""A GATT service in front of a board in QEMU: packets of raw SMP in the air, console lines on its UART.

The emulated boards have no radio. So a virtual one forwards whole requests and answers, and behaves as the
board's own would: when the board is told to restart, the connection ends, and nothing advertises until it has
booted. It does not show Zephyr's own radio.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from gatewayd.link.uart import UartLink
from gatewayd.protocol.smp.answers import is_of, offset_of
from gatewayd.protocol.smp.console import ConsoleDeframer, encode_console, frame_room
from gatewayd.protocol.smp.frames import Frame, Group, ImageCommand, OsCommand
from gatewayd.protocol.smp.kind import GATT
from gatewayd.protocol.smp.plain import REQUESTS, PlainDeframer
from lab.bumble_radio import Air
from lab.smp.port import BAUD, BoardPort

_LEAVES_S = 0.3  # it goes on answering for a while after it was told to restart
_BOOTS_S = 1.7
_BUFFERS = 3  # one is for the answer, and its line buffers hold two requests


class Bridge:
    """See the module's text.

    Attributes:
        taken: the offset that the board wanted last.
        repeated: bytes of the image that it was sent although it had said that it has them.
    """

    def __init__(self, air: Air, name: str, address: str, port: BoardPort) -> None:
        self.taken = 0
        self.repeated = 0
        self._air, self._name, self._address = air, name, address
        self._uart = UartLink(str(port.path), baud=BAUD)
        self._requests = PlainDeframer(REQUESTS)
        self._answers = ConsoleDeframer()
        self._packet = 20
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._is_away = False
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, mtu: int = 247) -> "Bridge":
        """Advertise, and forward from now on."""
        await self._uart.open()
        self.peripheral = await self._air.peripheral(self._name, self._address, profile=GATT, mtu=mtu)
        self.peripheral.on_frame = self._hear
        self.peripheral.on_connected = self._connected
        self.peripheral.on_disconnected = self._disconnected
        self._start(self._forward())
        self._start(self._answer())
        return self

    async def close(self) -> None:
        """Forward nothing any more. Raises what went wrong meanwhile."""
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._uart.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def lose_radio(self, seconds: float) -> None:
        """Be out of range for a while."""
        self._is_away = True
        await self.peripheral.fall_silent()
        await asyncio.sleep(seconds)
        self._is_away = False
        await self.peripheral.advertise()

    async def until_taken(self, size: int) -> None:
        """Wait until the board has that much of an image."""
        while self.taken < size:  # noqa: ASYNC110 - the board tells it now and then
            await asyncio.sleep(0.01)

    def _connected(self, size: int) -> None:
        self._packet = size
        self._requests.drop()

    def _disconnected(self) -> None:
        if not self._is_away:
            self._start(self.peripheral.advertise())

    def _hear(self, packet: bytes) -> None:
        for found in self._requests.feed(packet):
            if isinstance(found, bytes):
                self._take(found)

    def _take(self, content: bytes) -> None:
        asked = Frame.from_bytes(content)
        if (asked.group, asked.command) == (Group.IMAGE, ImageCommand.UPLOAD) and asked.payload["off"]:
            self.repeated += max(0, min(self.taken - asked.payload["off"], len(asked.payload["data"])))
        self._outbox.put_nowait(encode_console(content))
        if (asked.group, asked.command) == (Group.OS, OsCommand.RESET):
            self._start(self._restart())

    async def _restart(self) -> None:
        await asyncio.sleep(_LEAVES_S)
        self.taken = 0
        await self.lose_radio(_BOOTS_S)

    async def _forward(self) -> None:
        while True:
            await self._uart.send(await self._outbox.get())

    async def _answer(self) -> None:
        while True:
            for found in self._answers.feed(await self._uart.receive()):
                if isinstance(found, bytes):
                    await self._notify(Frame.from_bytes(found))

    async def _notify(self, answer: Frame) -> None:
        if is_of(answer, Group.IMAGE, ImageCommand.UPLOAD):
            self.taken = max(self.taken, offset_of(answer) or 0)
        elif is_of(answer, Group.OS, OsCommand.PARAMS):  # the console limits it further
            room = frame_room(answer.payload["buf_size"])
            answer = replace(answer, payload={"buf_size": room, "buf_count": _BUFFERS})
        content = answer.to_bytes()
        if self.peripheral.connection is not None:
            for at in range(0, len(content), self._packet):
                await self.peripheral.notify(content[at : at + self._packet])

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)
