"""What the serial link does without being waited for: hand over what arrives, send what there is room for."""

import asyncio
import errno
import os
from collections.abc import Callable

import pytest
from lab.serial_line import Line

from gatewayd.errors import LinkLost
from gatewayd.link.flood import Allowance
from gatewayd.link.uart import UartLink


async def test_what_arrives_is_handed_over_in_its_order_and_the_rest_received(
    line: Line, link: UartLink
) -> None:
    came: list[bytes] = []
    line.say(b"before")
    await _until(lambda: link._reader.has_more)  # noqa: SLF001 - nobody has received it yet
    link.on_data = came.append
    line.say(b"behind")
    await _until(lambda: len(link._reader._unread) > len(b"before"))  # noqa: SLF001
    assert came == []
    assert await link.receive() == b"beforebehind"
    line.say(b"at once")
    await _until(lambda: bool(came))
    assert came == [b"at once"]
    assert not link._reader.has_more  # noqa: SLF001


async def test_a_flood_is_not_handed_over_faster_than_it_may_come(
    line: Line, link: UartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[bytes] = []
    link.on_data = came.append
    monkeypatch.setattr(Allowance, "wait_s", lambda _allowance, _now: 60.0)
    line.say(bytes(1024))
    await _until(lambda: link._reader.has_more)  # noqa: SLF001
    assert came == []


async def test_what_is_handed_over_counts_against_what_may_come(line: Line, link: UartLink) -> None:
    link.on_data = lambda _data: None
    link._allowance._left = 0.0  # noqa: SLF001 - a flood has just used it up
    line.say(b"x" * 500)
    await _until(lambda: link._allowance._left < -400)  # noqa: SLF001


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the kernel sets no event
        await asyncio.sleep(0)


async def test_a_frame_goes_out_at_once_when_no_more_than_the_one_before_is_queued(
    line: Line, link: UartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = 0
    monkeypatch.setattr(UartLink, "_queued", lambda _link, _port: queued)
    assert link.send_now(b"ten bytes!")
    queued = 10
    assert link.send_now(b"four")
    heard = b""
    while len(heard) < len(b"ten bytes!four"):
        heard += await line.hear()
    assert heard == b"ten bytes!four"
    queued = 5
    assert not link.send_now(b"one more")
    sending = asyncio.create_task(link.send(b"later"))
    await asyncio.sleep(0)
    assert os.get_blocking(line.master)
    os.set_blocking(line.master, False)
    with pytest.raises(BlockingIOError):
        os.read(line.master, 100)
    queued = 4
    await sending
    assert os.read(line.master, 100) == b"later"
    monkeypatch.undo()


async def test_nothing_goes_out_at_once_behind_what_the_kernel_does_not_take(link: UartLink) -> None:
    blocked = asyncio.create_task(link.send(bytes(60_000)))
    await asyncio.sleep(0)
    assert not link.send_now(b"x")
    blocked.cancel()


async def test_a_port_that_cannot_be_read_is_a_lost_line(
    line: Line, link: UartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.create_task(link.receive())

    def read(_fd: int, _size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("gatewayd.link.uart.os.read", read)
    line.say(b"x")
    with pytest.raises(LinkLost, match="Input/output error"):
        await waiting
    monkeypatch.undo()
