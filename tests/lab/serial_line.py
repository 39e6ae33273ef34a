"""A serial line on a pty, whose far end a test holds."""

import asyncio
import os
import pty
import tty
from dataclasses import dataclass


@dataclass
class Line:
    """The far end of a serial line."""

    master: int
    slave: int
    path: str

    def say(self, data: bytes) -> None:
        os.write(self.master, data)

    async def hear(self) -> bytes:
        return await asyncio.to_thread(os.read, self.master, 65536)

    def unplug(self) -> None:
        os.close(self.master)
        os.close(self.slave)
        self.master = self.slave = -1


def make_line() -> Line:
    master, slave = pty.openpty()
    tty.setraw(slave)
    return Line(master, slave, os.ttyname(slave))
