"""The serial link on real ptys: the test holds the master, the link opens the slave."""

import asyncio
import contextlib
import errno
import fcntl
import os
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from lab.serial_line import Line, make_line

from gatewayd.errors import LinkError, LinkLost
from gatewayd.link import uart
from gatewayd.link.flood import PIECE_BYTES
from gatewayd.link.open_errors import translate_error
from gatewayd.link.uart import UartLink, wake


async def test_bytes_go_both_ways(line: Line, link: UartLink) -> None:
    await link.send(b"\x00ping\x00")
    assert await line.hear() == b"\x00ping\x00"
    line.say(b"\x00\x03\x11\x13\r\npong\x00")
    assert await link.receive() == b"\x00\x03\x11\x13\r\npong\x00"


async def test_what_the_kernel_takes_is_written_without_a_turn_of_the_loop(
    line: Line, link: UartLink
) -> None:
    sending = link.send(b"ping")
    with pytest.raises(StopIteration):
        sending.send(None)
    assert await line.hear() == b"ping"


async def test_what_was_said_before_the_open_is_discarded(line: Line) -> None:
    line.say(b"stale")
    link = UartLink(line.path, baud=115200)
    await link.open()
    line.say(b"fresh")
    assert await link.receive() == b"fresh"
    await link.close()


async def test_a_second_open_is_refused_until_the_first_is_closed(line: Line, link: UartLink) -> None:
    second = UartLink(line.path, baud=115200)
    with pytest.raises(LinkError) as refused:
        await second.open()
    assert refused.value.code == "link_busy"
    assert line.path in refused.value.message
    await link.close()
    await second.open()
    await second.close()


@contextlib.contextmanager
def a_reader(path: str) -> Iterator[int]:
    """A program that opens the port first, and locks nothing."""
    with Path(path).open("rb", buffering=0) as port:
        reader = subprocess.Popen(["sleep", "60"], stdin=port)
    try:
        yield reader.pid
    finally:
        reader.kill()
        reader.wait()


async def test_a_reader_that_came_first_is_named(line: Line) -> None:
    link = UartLink(line.path, baud=115200)
    with a_reader(line.path) as pid:
        await link.open()
        assert await link.rival() == f"sleep (process {pid})"
    assert not await link.rival()
    await link.close()


async def test_the_port_is_marked_exclusive_while_open_and_not_after(line: Line, link: UartLink) -> None:
    assert _is_exclusive(line.slave)
    await link.close()
    assert not _is_exclusive(line.slave)


def _is_exclusive(fd: int) -> bool:
    tiocgexcl = 0x80045440  # not in Python's termios
    return fcntl.ioctl(fd, tiocgexcl, bytes(4)) != bytes(4)


async def test_a_missing_port_says_so() -> None:
    with pytest.raises(LinkError) as refused:
        await UartLink("/dev/serial/by-id/nothing", baud=115200).open()
    assert refused.value.code == "link_missing"
    assert "by-id" in refused.value.hint


async def test_a_file_is_no_port(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(LinkError) as refused:
        await UartLink(str(path), baud=115200).open()
    assert refused.value.code == "link_error"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "link_missing"),
        (errno.ENODEV, "link_missing"),
        (errno.EBUSY, "link_busy"),
        (errno.EAGAIN, "link_busy"),
        (errno.EACCES, "link_denied"),
        (errno.EPERM, "link_denied"),
        (errno.EISDIR, "link_error"),
        (errno.EMFILE, "too_many_files"),
        (errno.ENFILE, "too_many_files"),
        (errno.EIO, "link_error"),
        (None, "link_error"),
    ],
)
def test_each_refusal_has_its_code(number: int | None, code: str) -> None:
    error = serial.SerialException(number, "why") if number else serial.SerialException("why")
    assert translate_error("/dev/ttyUSB0", error).code == code


async def test_a_directory_is_no_port(tmp_path: Path) -> None:
    with pytest.raises(LinkError) as refused:
        await UartLink(str(tmp_path), baud=115200).open()
    assert f"{tmp_path} is a directory, not a port" in str(refused.value)


def test_a_kind_of_port_that_the_unit_leaves_out_is_no_matter_of_groups() -> None:
    left_out = translate_error("/dev/null", serial.SerialException(errno.EPERM, "why"))
    assert "DeviceAllow=char-1 rw" in left_out.hint
    assert "dialout" not in left_out.hint
    assert (
        "DeviceAllow=char-MAJOR rw"
        in translate_error("/dev/none", serial.SerialException(errno.EPERM, "")).hint
    )
    assert "dialout" in translate_error("/dev/null", serial.SerialException(errno.EACCES, "why")).hint


def test_a_busy_port_names_who_has_it(line: Line) -> None:
    with subprocess.Popen(["cat"], stdin=line.slave, stdout=subprocess.DEVNULL) as child:
        error = translate_error(line.path, OSError(errno.EBUSY, "busy"))
        child.kill()
    assert f" by cat (process {child.pid})" in error.message


@pytest.mark.parametrize(("dtr", "rts"), [(False, False), (True, False), (False, True)])
async def test_dtr_and_rts_are_chosen_before_the_port_is_opened(
    line: Line, monkeypatch: pytest.MonkeyPatch, dtr: bool, rts: bool
) -> None:
    seen: list[tuple[bool, bool]] = []
    real_open = serial.Serial.open

    def spying_open(port: serial.Serial) -> None:
        seen.append((port.dtr, port.rts))
        real_open(port)

    monkeypatch.setattr(serial.Serial, "open", spying_open)
    link = UartLink(line.path, baud=115200, dtr=dtr, rts=rts)
    await link.open()
    await link.close()
    assert seen == [(dtr, rts)]


async def test_closing_will_not_drop_dtr(line: Line) -> None:
    attributes = termios.tcgetattr(line.slave)
    attributes[2] |= termios.HUPCL
    termios.tcsetattr(line.slave, termios.TCSANOW, attributes)
    link = UartLink(line.path, baud=115200)
    await link.open()
    await link.set_baud(921600)
    await link.close()
    assert not termios.tcgetattr(line.slave)[2] & termios.HUPCL


async def test_unplugging_ends_a_waiting_receive_and_every_send(line: Line, link: UartLink) -> None:
    waiting = asyncio.create_task(link.receive())
    await asyncio.sleep(0)
    line.unplug()
    with pytest.raises(LinkLost, match="it was unplugged"):
        await waiting
    with pytest.raises(LinkLost):
        await link.send(b"anybody?")
    with pytest.raises(LinkLost):
        await link.set_baud(921600)


async def test_unplugging_ends_a_blocked_send(
    line: Line, link: UartLink, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = asyncio.create_task(link.send(bytes(60_000)))  # more than a pty's buffers take
    for _ in range(5):
        await asyncio.sleep(0)
    assert not blocked.done()
    line.unplug()
    with pytest.raises(LinkLost):
        await blocked
    assert not caplog.records  # the transport's own stack trace says nothing that LinkLost does not


async def test_the_same_link_opens_what_is_plugged_in_again(line: Line, tmp_path: Path) -> None:
    by_id = tmp_path / "by-id"
    by_id.symlink_to(line.path)
    link = UartLink(str(by_id), baud=115200)
    await link.open()
    line.unplug()
    with pytest.raises(LinkLost):
        await link.receive()
    await link.close()
    again = make_line()
    by_id.unlink()
    by_id.symlink_to(again.path)
    await link.open()
    again.say(b"back")
    assert await link.receive() == b"back"
    await link.close()
    again.unplug()


async def test_closing_twice_and_using_a_closed_link(link: UartLink) -> None:
    await link.close()
    await link.close()
    with pytest.raises(LinkLost):
        await link.receive()
    with pytest.raises(LinkLost):
        await link.send(b"x")


async def test_closing_does_not_wait_for_a_peer_that_reads_nothing(link: UartLink) -> None:
    blocked = asyncio.create_task(link.send(bytes(100_000)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.wait_for(link.close(), 120)
    with pytest.raises(LinkLost):
        await blocked


async def test_closing_drops_what_has_not_left(link: UartLink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport drains in the loop when it closes: on a stopped line that would be for ever."""
    order: list[str] = []
    monkeypatch.setattr(serial.Serial, "reset_output_buffer", lambda _port: order.append("dropped"))
    monkeypatch.setattr(serial.Serial, "flush", lambda _port: order.append("drained"))
    await link.close()
    assert order == ["dropped", "drained"]


async def test_the_speed_is_visible_in_termios(line: Line, link: UartLink) -> None:
    assert termios.tcgetattr(line.slave)[4] == termios.B115200
    await link.set_baud(921600)
    assert termios.tcgetattr(line.slave)[4:6] == [termios.B921600, termios.B921600]
    assert not termios.tcgetattr(line.slave)[2] & termios.HUPCL


async def test_an_impossible_speed_is_an_error_and_not_a_lost_line(link: UartLink) -> None:
    with pytest.raises(LinkError) as refused:
        await link.set_baud(-1)
    assert refused.value.code == "link_error"
    assert "-1 baud" in refused.value.message


async def test_the_speed_changes_after_what_was_sent_has_left(
    line: Line, link: UartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = iter([300, 100, 0])  # what a real port's TIOCOUTQ says; a pty's is always 0
    seen: list[int] = []

    def queued(_link: UartLink, _port: serial.Serial) -> int:
        left = next(queue)
        assert termios.tcgetattr(line.slave)[4] == termios.B115200
        seen.append(left)
        return left

    monkeypatch.setattr(UartLink, "_queued", queued)
    await link.set_baud(921600)
    assert seen == [300, 100, 0]
    monkeypatch.undo()


async def test_send_returns_when_only_its_own_frame_is_queued(
    link: UartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = iter([0, 30, 20, 11, 10, 0])
    monkeypatch.setattr(UartLink, "_queued", lambda _link, _port: next(queue))
    await link.send(b"ten bytes!")
    assert next(queue) == 0
    monkeypatch.undo()


async def test_a_flood_is_bounded(line: Line, link: UartLink) -> None:
    os.set_blocking(line.master, False)
    most = turns_after = 0
    while turns_after < 500:  # the kernel hands it over in its own time
        with contextlib.suppress(BlockingIOError):
            line.say(bytes(1024))
        await asyncio.sleep(0)
        most = max(most, len(link._reader._unread))  # noqa: SLF001 - what is bounded is inside
        turns_after += most >= uart._UNREAD_LIMIT  # noqa: SLF001 - its bound
    assert most < uart._UNREAD_LIMIT + 4096  # noqa: SLF001 - its bound
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(others())
    pieces = [await link.receive() for _ in range(most // PIECE_BYTES)]
    counting.cancel()
    assert {len(piece) for piece in pieces} == {PIECE_BYTES}
    assert turns >= len(pieces) - 1  # the other lines come in between
    assert await link.receive()  # reading goes on


async def test_an_open_that_is_given_up_leaves_no_port_behind(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = UartLink._open_port  # noqa: SLF001 - the thread's part
    ports: list[serial.Serial] = []

    def slow(link: UartLink) -> serial.Serial:
        loop.call_soon_threadsafe(opening.set)
        ports.append(real(link))
        return ports[0]

    monkeypatch.setattr(UartLink, "_open_port", slow)
    task = asyncio.create_task(UartLink(line.path, baud=115200).open())
    await opening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await loop.run_in_executor(None, lambda: None)
    while not ports or ports[0].is_open:  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0)


async def test_wake_takes_the_text_wherever_it_stands(line: Line, link: UartLink) -> None:
    waking = asyncio.create_task(wake(link, b"AT+OTA\r\n", b"OK"))
    assert await line.hear() == b"AT+OTA\r\n"
    line.say(b"[12.3] boot\r\nO")
    await asyncio.sleep(0)
    line.say(b"K\r\nready")
    await waking


async def test_wake_that_expects_nothing_only_sends(line: Line, link: UartLink) -> None:
    await wake(link, b"\x1b", None)
    assert await line.hear() == b"\x1b"


async def test_wake_that_fails_says_what_came(line: Line, link: UartLink) -> None:
    line.say(b"login: ")
    with pytest.raises(LinkError) as failed:
        await wake(link, b"AT+OTA\r\n", b"OK", timeout_s=0.05)
    assert failed.value.code == "wake_failed"
    assert "login: " in failed.value.message


async def test_wake_on_a_line_that_goes_away_is_a_lost_line(line: Line, link: UartLink) -> None:
    waking = asyncio.create_task(wake(link, b"AT+OTA\r\n", b"OK"))
    await asyncio.sleep(0)
    line.unplug()
    with pytest.raises(LinkLost):
        await waking


async def test_a_port_of_the_devices_own_usb_goes_with_it(
    link: UartLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not link.vanishes_with_device
    await link.close()
    monkeypatch.setattr(uart, "_NATIVE_USB", "/dev/pts/")
    await link.open()
    assert link.vanishes_with_device
