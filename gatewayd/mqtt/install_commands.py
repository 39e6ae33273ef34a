"""Commands by MQTT to install what is offered to a device: what Home Assistant's button sends.

They are carried out one after the other, away from the connection: the next message need not wait. The
broker's access rules decide which clients may publish on these topics; the message can only name the version
that is on offer anyway.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Container
from typing import NoReturn

import structlog

from gatewayd.allowance import Allowance
from gatewayd.errors import GatewaydError, RequestError
from gatewayd.mqtt.connection import IncomingMessage

log = structlog.get_logger()

# Longer than any version.
LONGEST_BYTES = 64
# Commands that wait; a person presses a few buttons, a flood has more.
MOST_WAITING = 16
# Lines in the log about what is ignored: a flood must not flood it.
LINES_AT_ONCE, LINES_PER_HOUR = 20, 60.0

# Installs a version on the device of that name. Raises GatewaydError.
Install = Callable[[str, str], Awaitable[object]]


class InstallCommands:
    """Takes commands for as long as `run` runs. `names` returns the devices there are."""

    def __init__(
        self,
        install: Install,
        names: Callable[[], Container[str]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._install = install
        self._names = names
        self._waiting: list[tuple[str, str]] = []
        self._news = asyncio.Event()
        self._lines = Allowance(LINES_AT_ONCE, LINES_PER_HOUR, clock)

    def take(self, name: str, message: IncomingMessage) -> None:
        """Take a command, or say in the log why it is ignored."""
        try:
            command = name, self._checked(name, message)
        except RequestError as error:
            self._ignore(name, error)
            return
        if command not in self._waiting:
            self._waiting.append(command)
        self._news.set()

    async def run(self) -> NoReturn:
        """Carry commands out until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                name, version = self._waiting.pop(0)
                try:
                    await self._install(name, version)
                except GatewaydError as error:
                    self._ignore(name, error)

    def _checked(self, name: str, message: IncomingMessage) -> str:
        """Return the version that a command names. Raises RequestError."""
        if message.retain:
            raise RequestError(
                "the command was retained, or kept while there was no connection, so it may be old",
                code="retained_command",
                hint="publish it without retain, and empty its topic",
            )
        size = len(message.payload)
        if not 0 < size <= LONGEST_BYTES or not message.payload.isascii():
            raise RequestError(f"expected the version that is on offer, got {size} bytes", code="bad_command")
        if name not in self._names():
            raise RequestError(f"there is no device {name[:80]!r}", code="no_such_device")
        if len(self._waiting) >= MOST_WAITING:
            raise RequestError(f"{MOST_WAITING} commands wait already", code="busy")
        return message.payload.decode("ascii")

    def _ignore(self, name: str, error: GatewaydError) -> None:
        if self._lines.take():
            log.warning("install ignored", device=name[:80], code=error.code, reason=str(error), by="mqtt")
