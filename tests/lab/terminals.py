"""gatewayctl on a terminal, and before a pipe, as processes."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

COLUMNS = 80
DEADLINE_S = 120.0
CTL = (sys.executable, "-m", "gatewayd.cli.ctl")
# Takes the terminal it was given for its own, so that Ctrl-C means it.
_ON_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NOT_OURS = ("COLUMNS", "LINES", "NO_COLOR")


class Terminal:
    """A command on a terminal of 80 columns, which is its controlling terminal."""

    def __init__(self, path: Path, *words: object) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, COLUMNS, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_OURS}
        command = [sys.executable, "-c", _ON_TERMINAL, *CTL, "--socket", path, *words]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment | {"TERM": "xterm-256color"},
        )
        os.close(slave)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        os.close(self._master)

    def until(self, pattern: str) -> str:
        """Read until something is shown; returns all that was shown so far, without control sequences."""
        deadline = time.monotonic() + DEADLINE_S
        while not re.search(pattern, self.text):
            assert self._read(deadline), f"it ended without {pattern!r}: {self.shown!r}"
        return self.text

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def end(self) -> int:
        """Read to the end, and return how it ended."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read(deadline):
            pass
        return self.process.wait(DEADLINE_S)

    @property
    def text(self) -> str:
        return _CONTROL_SEQUENCE.sub("", self.shown)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in re.split(r"[\r\n]+", self.text)]

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"it shows nothing more: {self.shown!r}"
        try:
            more = os.read(self._master, 65536)
        except OSError:  # EIO: the last one with the other end open is gone
            return False
        self.shown += more.decode(errors="replace")
        return bool(more)


class Pipe:
    """A command whose output goes into a pipe."""

    def __init__(self, path: Path, *words: object) -> None:
        command = [str(word) for word in (*CTL, "--socket", path, *words)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines: list[str] = []
        self._ahead = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def until(self, pattern: str) -> str:
        """Read lines until one is as wanted."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + DEADLINE_S
        while line := self._line(deadline):
            self.lines.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"it ended without {pattern!r}: {self.lines}")

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; return how it ended, and what it had to complain of."""
        self.process.send_signal(signal.SIGINT)
        out, errors = self.process.communicate(timeout=DEADLINE_S)
        self.lines += (self._ahead + out).decode().splitlines()
        return self.process.returncode, errors.decode()

    def _line(self, deadline: float) -> str:
        """Return the next line; empty at the end."""
        assert self.process.stdout is not None
        while b"\n" not in self._ahead:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no more lines after {self.lines}"
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                return ""
            self._ahead += more
        line, _, self._ahead = self._ahead.partition(b"\n")
        return line.decode()
