"""A pseudo-terminal that looks like a serial port to the program that opens its path."""

import contextlib
import fcntl
import os
import struct
import termios
import tty
from pathlib import Path

from gatewayd.errors import HostError

# struct termios2 as x86, ARM and RISC-V have it: four flags, line discipline, 19 control characters, two
# speeds as plain numbers. Python's termios knows only the standard speeds.
_TCGETS2 = 0x802C542A
_TERMIOS2 = struct.Struct("4IB19s2I")
_TIOCGEXCL = 0x80045440
_OUTPUT_SPEED = 7  # index into _TERMIOS2


class Terminal:
    """A pty in raw mode whose slave is at `path`, a symbolic link, until `close`."""

    def __init__(self, path: Path, baud: int) -> None:
        self.path = path
        self.master, self._slave = os.openpty()
        os.set_blocking(self.master, False)
        tty.setraw(self._slave)  # we keep the slave open: else reading fails while no gateway has it open
        self._set_first_speed(baud)
        self._name = os.ttyname(self._slave)
        try:
            self._link()
        except HostError:
            self._close_fds()
            raise

    def read(self, size: int) -> bytes:
        """Take up to `size` bytes of what the gateway wrote; none when there are none."""
        try:
            return os.read(self.master, size)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Hand bytes to the gateway; what does not fit is lost, as on a real port that nobody reads."""
        with contextlib.suppress(BlockingIOError):
            os.write(self.master, data)

    def baud(self) -> int:
        """The speed the gateway has set."""
        raw = fcntl.ioctl(self._slave, _TCGETS2, bytes(_TERMIOS2.size))
        return int(_TERMIOS2.unpack(raw)[_OUTPUT_SPEED])

    def free_after_crash(self) -> None:
        """Take TIOCEXCL off when the gateway that set it is dead.

        A real port loses it with the last close; this one we keep open. A living gateway holds the flock.
        """
        if fcntl.ioctl(self._slave, _TIOCGEXCL, bytes(4)) == bytes(4):
            return
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._slave, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.ioctl(self._slave, termios.TIOCNXCL)
            fcntl.flock(self._slave, fcntl.LOCK_UN)

    def close(self) -> None:
        """Remove the link, if it is still ours, and the pty."""
        with contextlib.suppress(OSError):
            if str(self.path.readlink()) == self._name:
                self.path.unlink()
        self._close_fds()

    def _set_first_speed(self, baud: int) -> None:
        speed = getattr(termios, f"B{baud}", termios.B115200)
        attributes = termios.tcgetattr(self._slave)
        attributes[4] = attributes[5] = speed
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)

    def _link(self) -> None:
        if self.path.exists() and not self.path.is_symlink():
            raise HostError(
                f"{self.path} exists and is no symbolic link",
                code="port_exists",
                hint="choose another --port",
            )
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            new.unlink(missing_ok=True)
            new.symlink_to(self._name)
            new.replace(self.path)
        except OSError as error:
            raise HostError(
                f"cannot make the link {self.path}: {error.strerror}", code="port_exists"
            ) from error

    def _close_fds(self) -> None:
        os.close(self.master)
        os.close(self._slave)
