"""A serial line on a pty, and the link that has it open."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from lab.serial_line import Line, make_line

from gatewayd.link.uart import UartLink


@pytest.fixture
def line() -> Iterator[Line]:
    made = make_line()
    yield made
    for fd in (made.master, made.slave):
        if fd != -1:
            os.close(fd)


@pytest.fixture
async def link(line: Line) -> AsyncIterator[UartLink]:
    opened = UartLink(line.path, baud=115200)
    await opened.open()
    yield opened
    await opened.close()
