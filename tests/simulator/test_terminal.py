"""The pty of a virtual device, and the link that leads to it."""

import fcntl
import os
import termios
from pathlib import Path

import pytest

from gatewayd.errors import HostError
from gatewayd.simulator.terminal import Terminal


def test_a_file_in_the_links_place_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "port"
    path.write_text("mine")
    with pytest.raises(HostError) as refused:
        Terminal(path, 115200)
    assert refused.value.code == "port_exists"
    assert path.read_text() == "mine"


def test_exclusive_use_is_over_when_the_gateway_was_killed(tmp_path: Path) -> None:
    """TIOCEXCL outlives a killed gateway here, for we keep the slave open; a living one has the flock."""
    terminal = Terminal(tmp_path / "port", 115200)
    gateway_fd = os.open(tmp_path / "port", os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(gateway_fd, fcntl.LOCK_EX)
    fcntl.ioctl(gateway_fd, termios.TIOCEXCL)
    terminal.free_after_crash()
    assert _is_exclusive(gateway_fd)
    os.close(gateway_fd)
    terminal.free_after_crash()
    again = os.open(tmp_path / "port", os.O_RDWR | os.O_NOCTTY)
    assert not _is_exclusive(again)
    os.close(again)
    terminal.close()


def _is_exclusive(fd: int) -> bool:
    return fcntl.ioctl(fd, 0x80045440, bytes(4)) != bytes(4)
