"""A terminal of 80 columns: a command runs on it as for a person, and what it shows is read."""

import asyncio
import contextlib
import os
import re
import signal
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import pyte

COLUMNS, LINES = 80, 24
DEADLINE_S = 180.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal with one shell command on it, which `async with` ends."""

    def __init__(self, command: str, folder: Path, environment: Mapping[str, str]) -> None:
        self._command = command
        self._folder = folder
        self._environment = {**environment, "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
        self._bytes = bytearray()
        self._news = asyncio.Event()
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._master, slave = os.openpty()
        termios.tcsetwinsize(slave, (LINES, COLUMNS))
        try:
            # setsid makes it the session's terminal, so that Ctrl-C reaches the foreground process.
            self._process = await asyncio.create_subprocess_exec(
                *("setsid", "--ctty", "--wait", "sh", "-c", self._command),
                cwd=self._folder,
                env=self._environment,
                stdin=slave,
                stdout=slave,
                stderr=slave,
            )
        finally:
            os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if not self._is_over:
            asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    @property
    def text(self) -> str:
        """Everything that was written, without colours."""
        text = self._bytes.decode(errors="replace").replace("\r\n", "\n")
        return _ESCAPES.sub("", text)

    @property
    def screen(self) -> str:
        """What is to be seen now."""
        screen = pyte.Screen(COLUMNS, LINES)
        pyte.ByteStream(screen).feed(bytes(self._bytes))
        return "\n".join(line.rstrip() for line in screen.display).rstrip() + "\n"

    async def until(self, reached: Callable[[], object], what: str) -> None:
        """Wait until what is written meets a condition."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not reached():
                    assert not self._is_over, f"{self._command!r} ended without {what}:\n{self.text}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self._command!r}: waited in vain for {what}:\n{self.screen}") from None

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    async def ended(self) -> int:
        """Wait for the command to end; return its exit code, -2 when Ctrl-C ended it."""
        async with asyncio.timeout(DEADLINE_S):
            while not self._is_over:
                self._news.clear()
                await self._news.wait()
            code = await self._process.wait()
        return -signal.SIGINT if code == 128 + signal.SIGINT else code

    def _read(self) -> None:
        data = b""
        with contextlib.suppress(OSError):  # that is how Linux says that nobody has it open any more
            data = os.read(self._master, 65536)
        self._bytes += data
        if not data:
            self._is_over = True
            asyncio.get_running_loop().remove_reader(self._master)
        self._news.set()
