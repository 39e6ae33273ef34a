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


async def test_frames_go_out_at_once_while_what_is_before_them_leaves_in_a_moment(
    line: Line, link: UartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, queued = 0.0, 4000
    monkeypatch.setattr(UartLink, "_queued", lambda _link, _port: queued)
    monkeypatch.setattr(link, "_clock", lambda: now)
    assert link.send_now(bytes(4000))
    assert not link.send_now(b"this")  # that would leave in 0.35 s
    now, queued = 0.1, 4848
    assert link.send_now(b"this")
    assert link.send_now(bytes(2000))
    assert not link.send_now(b"that")
    queued = 0
    assert link.send_now(b"that")  # for the line is faster than its speed says
    left = 4000 + 4 + 2000 + 4
    while left:
        left -= len(await line.hear())


async def test_a_frame_that_has_to_wait_goes_out_when_no_more_than_the_one_before_is_queued(
    line: Line, link: UartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = 0
    monkeypatch.setattr(UartLink, "_queued", lambda _link, _port: queued)
    assert link.send_now(b"four")
    assert await line.hear() == b"four"
    queued = 5
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


async def test_what_is_held_back_is_handed_over_when_somebody_looks(line: Line, link: UartLink) -> None:
    came: list[bytes] = []
    link.on_data = came.append
    assert link.hold()
    line.say(b"one")
    line.say(b"two")
    await asyncio.sleep(0.05)  # the loop has its turns, and sees nothing
    assert came == []
    link.look()
    assert came == [b"onetwo"]
    line.say(b"three")
    await _until(lambda: len(came) == 2)
    assert came[1] == b"three"


async def test_who_takes_what_was_held_back_may_have_the_next_held_back(line: Line, link: UartLink) -> None:
    came: list[bytes] = []

    def take(data: bytes) -> None:
        came.append(data)
        assert link.hold()

    link.on_data = take
    line.say(b"one")
    await _until(lambda: bool(came))
    line.say(b"two")
    await asyncio.sleep(0.05)
    link.look()
    assert came == [b"one", b"two"]


async def test_a_look_at_a_quiet_line_finds_it_there(line: Line, link: UartLink) -> None:
    came: list[bytes] = []
    link.on_data = came.append
    assert link.hold()
    link.look()
    line.say(b"later")
    await _until(lambda: bool(came))
    assert came == [b"later"]


async def test_a_line_that_is_unplugged_while_it_is_held_back_is_lost(line: Line, link: UartLink) -> None:
    link.on_data = lambda _data: None
    assert link.hold()
    waiting = asyncio.create_task(link.receive())
    await asyncio.sleep(0)
    line.unplug()
    link.look()
    with pytest.raises(LinkLost, match="is gone"):
        await waiting
    assert not link.hold()
    link.look()  # which does nothing any more


async def test_what_nobody_has_taken_yet_is_not_held_back(line: Line, link: UartLink) -> None:
    line.say(b"before")
    await _until(lambda: link._reader.has_more)  # noqa: SLF001
    assert not link.hold()


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
