"""A serial port as a Link: pyserial-asyncio's transport, with its rough edges smoothed.

- Exclusive: both flock (pyserial) and TIOCEXCL, because some programs ignore one of them.
- No reset on open: DTR and RTS are chosen before the port is opened; HUPCL is off, so closing does not change
  them.
- The kernel's queue cannot be recalled: `send` waits until at most its own frame is queued (TIOCOUTQ), and
  `send_now` adds only to what leaves in a moment, reckoned by the speed.
- Nothing here blocks the loop: opening and draining run in a thread.
- If a device floods us, at most 64 KiB are buffered; then reading stops, and the kernel drops the rest. Data
  is taken in small pieces, and no faster than flood.py allows, so that other lines get their turn.
"""

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

import serial
import serial_asyncio

from gatewayd.errors import LinkError, LinkLost
from gatewayd.link.base import LeadsToOne
from gatewayd.link.flood import PIECE_BYTES, Allowance
from gatewayd.link.holders import find_holder
from gatewayd.link.open_errors import translate_error
from gatewayd.link.wake import wake

__all__ = ["UartLink", "wake"]

_NATIVE_USB = "/dev/ttyACM"
_UNREAD_LIMIT = 64 * 1024
_BITS_PER_BYTE = 10
_AHEAD_S = 0.3  # how much `send_now` may find queued: who uses it knows what the line needs
_POLL_S = 0.001  # how often TIOCOUTQ is asked; a 1 KiB frame takes 11 ms at 921600 baud
_DRAIN_SPARE_S = 1.0  # beyond the queue's own time: a USB adapter that is wedged must not hold us
_CLOSE_DRAIN_S = 0.25  # for a last frame to leave; what has not left by then is dropped


class UartLink(LeadsToOne):
    """One serial port. `dtr` and `rts` are the levels it is opened with (True: asserted)."""

    is_datagram = False
    max_datagram: int | None = None

    def __init__(self, path: str, *, baud: int, dtr: bool = False, rts: bool = False) -> None:
        self.path = path
        self._baud = baud
        self._dtr = dtr
        self._rts = rts
        self._port: serial.Serial | None = None
        self._transport: _Transport | None = None
        self._reader = _Reader(path, self._arrived)
        self._allowance = Allowance(baud)
        self._sent_size = 0  # of what was handed over last
        self._leaves_at = 0.0  # when all of it has, as its speed says
        self._clock: Callable[[], float] = time.monotonic  # the loop's, once it is open
        self._is_native_usb = False

    @property
    def vanishes_with_device(self) -> bool:
        """See Link. Determined when the port was last opened."""
        return self._is_native_usb

    async def rival(self) -> str:
        """See Link: one that had it open before us, or asks nobody, such as a login on a serial console."""
        holder = await asyncio.to_thread(find_holder, self.path)
        return "" if holder is None else str(holder)

    async def open(self) -> None:
        """See Link. What the device said before is discarded, by pyserial."""
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self._open_port)
        try:
            port = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)  # the thread cannot be stopped; do not leave the port open
            raise
        self._port, self._clock = port, loop.time
        self._is_native_usb = _is_native_usb(self.path)
        self._reader = _Reader(self.path, self._arrived)
        self._transport = _Transport(loop, self._reader, port)
        self._transport.set_write_buffer_limits(high=0)

    async def close(self) -> None:
        """See Link."""
        transport, port = self._transport, self._port
        self._transport = self._port = None
        if transport is None or port is None:
            return
        try:
            with contextlib.suppress(LinkError):
                await self._drain(port, _CLOSE_DRAIN_S)
        finally:
            self._abort(transport, port)
        await self._reader.lost.wait()

    def _abort(self, transport: "_Transport", port: serial.Serial) -> None:
        if self._reader.lost.is_set():
            return
        with contextlib.suppress(OSError, termios.error, serial.SerialException):
            fcntl.ioctl(port.fileno(), termios.TIOCNXCL)  # else it stays while another has the port open
            port.reset_output_buffer()  # closing would wait for it, in the loop
        transport.abort()

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        """See Link."""
        del confirmed  # a wire gives no confirmation
        transport, _ = self._opened()
        await self._leave(self._sent_size)  # what `send_now` left
        self._sent_size = len(data)
        transport.write(data)
        await self._leave(len(data))
        self._leaves_at = self._clock() + self._wire_s(len(data))

    def send_now(self, data: bytes) -> bool:
        """See Link."""
        transport, port = self._opened()
        if transport.get_write_buffer_size() or not self._has_room(port):
            return False
        self._sent_size = len(data)
        self._leaves_at += self._wire_s(len(data))
        transport.write(data)
        return True

    def _has_room(self, port: serial.Serial) -> bool:
        """Whether what was handed over leaves in a moment; asks the kernel only if it seems not to."""
        now = self._clock()
        if self._leaves_at - now > _AHEAD_S:
            self._leaves_at = now + self._wire_s(self._queued(port))
        self._leaves_at = max(self._leaves_at, now)
        return self._leaves_at - now <= _AHEAD_S

    async def receive(self) -> bytes:
        """See Link. Bytes that arrived before the line was lost are still delivered."""
        transport, _ = self._opened(check=False)
        wait_s = self._allowance.wait_s(self._clock())
        if wait_s or self._reader.has_more:
            await asyncio.sleep(wait_s)  # with more to take the other lines come first
        data = await self._reader.take(transport)
        self._allowance.took(len(data), self._clock())
        return data

    def hold(self) -> bool:
        """See Link."""
        if self._transport is None or self._reader.has_more or self._reader.lost.is_set():
            return False
        self._transport.hold()
        return True

    def look(self) -> None:
        """See Link."""
        if self._transport is not None:
            self._transport.look()

    def _arrived(self, data: bytes) -> bool:
        """Hand over what has arrived; False: it has to wait for its turn, behind what already waits."""
        if self.on_data is None or self._reader.has_more:
            return False
        if not self._allowance.admits(len(data), self._clock()):
            return False
        self.on_data(data)
        return True

    async def _leave(self, size: int) -> None:
        """Wait until no more than this is queued."""
        await self._reader.wait_writable()
        _, port = self._opened()
        while (queued := self._queued(port)) > size:
            await asyncio.sleep(max(_POLL_S, self._wire_s(queued - size)))
            self._reader.check()

    async def set_baud(self, baud: int) -> None:
        """See Link. Raises LinkError when the port cannot do that speed."""
        _, port = self._opened()
        await self._reader.wait_writable()
        await self._drain(port, self._wire_s(self._queued(port)) + _DRAIN_SPARE_S)
        try:
            port.baudrate = baud
        except (serial.SerialException, OSError, ValueError, OverflowError, termios.error) as error:
            raise LinkError(
                f"{self.path} does not do {baud} baud: {error}", hint="another transfer_baud"
            ) from error
        self._baud = baud
        self._allowance = Allowance(baud)

    def _opened(self, *, check: bool = True) -> tuple["_Transport", serial.Serial]:
        if self._transport is None or self._port is None:
            raise LinkLost(f"{self.path} is not open")
        if check:
            self._reader.check()
        return self._transport, self._port

    def _open_port(self) -> serial.Serial:
        """Open and configure; runs in a thread."""
        port = serial.Serial()
        port.port, port.baudrate, port.exclusive = self.path, self._baud, True
        port.dtr, port.rts = self._dtr, self._rts
        try:
            port.open()
            fcntl.ioctl(port.fileno(), termios.TIOCEXCL)
            _keep_lines_at_close(port.fileno())
            with contextlib.suppress(OSError, ValueError, NotImplementedError):
                port.set_low_latency_mode(True)  # an FTDI's 16 ms would cost a third of the speed
        except (serial.SerialException, OSError, ValueError, OverflowError, termios.error) as error:
            port.close()
            raise translate_error(self.path, error) from error
        return port

    def _wire_s(self, size: int) -> float:
        return size * _BITS_PER_BYTE / self._baud

    def _queued(self, port: serial.Serial) -> int:
        """Bytes in the kernel's queue; 0 on a pty, which does not say."""
        try:
            return int.from_bytes(fcntl.ioctl(port.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except (OSError, serial.SerialException) as error:
            raise LinkLost(f"{self.path} is gone: {error}") from error

    async def _drain(self, port: serial.Serial, limit_s: float) -> None:
        """Wait until the last bit has left, or `limit_s`; then drop what is left."""
        try:
            fd = port.fileno()
            async with asyncio.timeout(limit_s):
                while self._queued(port):  # noqa: ASYNC110 - the kernel sets no event
                    await asyncio.sleep(_POLL_S)
                await asyncio.to_thread(termios.tcdrain, fd)  # what the adapter itself holds
        except TimeoutError:
            termios.tcflush(fd, termios.TCOFLUSH)  # and so the thread comes to its end
        except (OSError, termios.error, serial.SerialException) as error:
            raise LinkLost(f"{self.path} is gone: {error}") from error


class _Reader(asyncio.Protocol):
    """Takes what comes, keeps a bounded amount of it, and knows whether the line is there."""

    def __init__(self, path: str, hand_over: Callable[[bytes], bool]) -> None:
        self.lost = asyncio.Event()
        self._path = path
        self._hand_over = hand_over
        self._why: Exception | None = None
        self._unread = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: Any = None
        self._paused = False

    @property
    def has_more(self) -> bool:
        """Whether something waits to be taken."""
        return bool(self._unread)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self._hand_over(data):
            return
        self._unread += data
        self._arrived.set()
        if len(self._unread) >= _UNREAD_LIMIT and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport."""
        self._why = exc
        self.lost.set()
        self._arrived.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Called by the transport: bytes are left that the kernel did not take."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by the transport."""
        self._writable.set()

    def check(self) -> None:
        """Raise LinkLost when the line is gone."""
        if self.lost.is_set() and self._why is None:
            raise LinkLost(f"{self._path} was closed")
        if self.lost.is_set():
            raise LinkLost(
                f"{self._path} is gone: {self._why}", hint="plug it in again; the transfer resumes"
            )

    async def wait_writable(self) -> None:
        """Wait until the kernel has taken everything. Raises LinkLost."""
        await self._writable.wait()
        self.check()

    async def take(self, transport: "_Transport") -> bytes:
        """Wait for bytes and take a piece. Raises LinkLost."""
        while not self._unread:
            self.check()
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._unread[:PIECE_BYTES])
        del self._unread[:PIECE_BYTES]
        if self._paused and not self._unread and not self.lost.is_set():
            self._paused = False
            transport.resume_reading()
        return data


class _Transport(serial_asyncio.SerialTransport):  # type: ignore[misc]  # it has no types
    """A transport that reads and writes at once, and tells a failure to `connection_lost` alone."""

    _is_held = False

    def hold(self) -> None:
        """Leave what arrives to the kernel until `look`."""
        self._is_held = True
        self.pause_reading()

    def look(self) -> None:
        """Read what has arrived since `hold`, and go on, unless who took it says `hold` again."""
        if not self._is_held:
            return
        self._is_held = False
        self._read(is_there=False)
        if not self._is_held:
            self.resume_reading()

    def _read_ready(self) -> None:
        self._read(is_there=True)

    def _read(self, *, is_there: bool) -> None:
        """Read a piece. Where the loop has said that there is one, pyserial would ask again, and copy it."""
        try:
            data = os.read(self._serial.fileno(), PIECE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fatal_error(error)
            return
        if data:
            self._protocol.data_received(data)
        elif is_there:  # a port that has nothing would have made us wait
            self._fatal_error(EOFError("it was unplugged"))

    def write(self, data: bytes) -> None:
        """Write what the kernel takes now: to ask the loop first costs two turns of it for each frame."""
        if not self._closing and not self.get_write_buffer_size():
            try:
                data = data[os.write(self._serial.fileno(), data) :]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._fatal_error(error)
                return
        if data:
            super().write(data)

    def _fatal_error(self, exc: Exception, message: str = "") -> None:  # noqa: ARG002 - its signature
        self._abort(exc)


def _keep_lines_at_close(fd: int) -> None:
    """Clear HUPCL: closing must not drop DTR, which resets many boards."""
    attributes = termios.tcgetattr(fd)
    attributes[2] &= ~termios.HUPCL
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _is_native_usb(path: str) -> bool:
    """Whether the port is a microcontroller's own USB and goes with it, which an adapter's does not."""
    return os.path.realpath(path).startswith(_NATIVE_USB)


def _close_late(opening: asyncio.Future[serial.Serial]) -> None:
    """Close a port whose opening was given up meanwhile."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
