"""One life of an emulated board, from power-on to its end, over QMP.

A reset inside QEMU loads the flash's first contents again, so each reset ends the process, and the next life
begins with the flash that this one left. QEMU has no watchdog for the nRF51; it logs the writes to where one
would be, and `Watchdog` does with them what the chip's own does.
"""

import asyncio
import contextlib
import json
import re
import socket
from enum import StrEnum
from pathlib import Path
from typing import Any

from suites.chip.board import Board

_ANSWER_LIMIT_S = 120.0
_TICK_S = 0.05
_UNIMPLEMENTED = re.compile(rb"offset 0x0*(10[0-9a-f]{3}), value 0x([0-9a-f]+)")
_WDT_START, _WDT_PERIOD, _WDT_FEED = b"10000", b"10504", b"0x00010600"
_WDT_HZ = 32_768


class End(StrEnum):
    """Why a life ended."""

    RESET = "reset"  # by the software on the chip
    BITE = "bite"  # by the watchdog
    CUT = "cut"  # by the test


class Watchdog:
    """The chip's watchdog, fed with what QEMU logs."""

    def __init__(self) -> None:
        self._period_s = 0.0
        self._left_s = 0.0
        self._is_on = False
        self._rest = b""

    def hear(self, log: bytes) -> None:
        if not self._is_on:
            self._rest += log
            for offset, value in _UNIMPLEMENTED.findall(self._rest):
                if offset == _WDT_PERIOD:
                    self._period_s = int(value, 16) / _WDT_HZ
                self._is_on = self._is_on or offset == _WDT_START
            self._left_s = self._period_s
        elif _WDT_FEED in log:
            self._left_s = self._period_s

    async def bite(self) -> None:
        """Return when nothing has fed it for its period. Time this process did not get is left out."""
        while not self._is_on or self._left_s > 0:
            await asyncio.sleep(_TICK_S)
            self._left_s -= _TICK_S


class Qemu:
    """A running chip. `uart` is connected to its serial line."""

    def __init__(
        self, process: asyncio.subprocess.Process, uart: socket.socket, qmp: asyncio.StreamWriter
    ) -> None:
        self.uart = uart
        self._qmp = qmp
        self.watchdog = Watchdog()
        self._process = process
        self._was_reset = asyncio.Event()
        self._asking = asyncio.Lock()
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, board: Board, flash: Path) -> "Qemu":
        uart, its_uart = socket.socketpair()
        qmp, its_qmp = socket.socketpair()
        with its_uart, its_qmp:
            process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL"),
                *(*board.machine, "-nodefaults", "-display", "none"),
                *("-d", "unimp", "-S", "-action", "reboot=shutdown,shutdown=pause"),
                *("-device", f"loader,file={flash},addr={board.layout['BOOT']},force-raw=on"),
                *("-chardev", f"socket,id=uart,fd={its_uart.fileno()}", "-serial", "chardev:uart"),
                *("-chardev", f"socket,id=qmp,fd={its_qmp.fileno()}", "-mon", "chardev=qmp,mode=control"),
                pass_fds=(its_uart.fileno(), its_qmp.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        uart.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=qmp)
        self = cls(process, uart, writer)
        self._tasks = [asyncio.create_task(self._hear(reader)), asyncio.create_task(self._read_log())]
        await self._answers.get()  # the greeting
        await self._ask("qmp_capabilities")
        await self._ask("cont")  # not before: an event that nobody is there for is lost
        return self

    async def until_end(self, cut: asyncio.Event) -> End:
        """Return at the first reason for this life to end. Raises if QEMU ends by itself."""
        ends = {
            asyncio.create_task(self._was_reset.wait()): End.RESET,
            asyncio.create_task(cut.wait()): End.CUT,
            asyncio.create_task(self.watchdog.bite()): End.BITE,
        }
        gone = asyncio.create_task(self._process.wait())
        try:
            done, _ = await asyncio.wait([*ends, gone], return_when=asyncio.FIRST_COMPLETED)
            assert gone not in done, f"QEMU ended by itself with {self._process.returncode}"
            return next(end for task, end in ends.items() if task in done)
        finally:
            for task in (*ends, gone):
                task.cancel()

    async def save(self, board: Board, flash: Path, ram: Path) -> None:
        """Stop it, and keep what is in its memories."""
        await self._ask("stop")
        layout = board.layout
        await self.copy(layout["BOOT"], layout["FLASH_SIZE"], flash)
        await self.copy(layout["RAM"], layout["RAM_SIZE"], ram)

    async def copy(self, address: int, size: int, file: Path) -> None:
        """Copy memory into a file, by the processor's eyes: `pmemsave` does not see this machine's flash."""
        await self._ask("memsave", {"val": address, "size": size, "filename": str(file)})

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._qmp.close()
        self.uart.close()

    async def _ask(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        async with self._asking:
            return await self._ask_alone(command, arguments or {})

    async def _ask_alone(self, command: str, arguments: dict[str, Any]) -> Any:
        question = {"execute": command, "arguments": arguments}
        self._qmp.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            answer = await self._answers.get()
        assert "return" in answer, f"QEMU refuses {command}: {answer}"
        return answer["return"]

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionResetError):  # it has ended
            async for line in reader:
                message = json.loads(line)
                if "event" not in message:
                    self._answers.put_nowait(message)
                elif message["event"] == "SHUTDOWN":
                    self._was_reset.set()

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        while log := await self._process.stderr.read(1 << 16):
            self.watchdog.hear(log)
