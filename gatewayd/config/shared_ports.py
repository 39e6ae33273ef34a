"""Devices whose ports are the same port at the moment, by whatever names.

Two adapters with one serial number share a name in /dev/serial/by-id, and which of them it leads to can
change with each boot. So this is not a mistake in the file, which was valid before: it concerns the devices
that share a port, for as long as they do, and no others.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from gatewayd.config.model import Device, UartSettings

# Unix98 pseudo-terminals, in the kernel's devices.txt: every file system of them counts from 0.
PTY_MAJORS = range(136, 144)

PortNumber = tuple[int, int, int]


def port_number(path: str) -> PortNumber | None:
    """Return what tells a port from all others, whatever leads to it; None: nothing is there now."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISCHR(status.st_mode):
        return 0, status.st_dev, status.st_ino
    return 1, status.st_rdev, status.st_dev if os.major(status.st_rdev) in PTY_MAJORS else 0


def sharing_port(device: Device, devices: Iterable[Device]) -> tuple[Device, ...]:
    """Return the other devices whose port is that of `device` at the moment."""
    if not isinstance(device.link, UartSettings) or (mine := port_number(device.link.uart)) is None:
        return ()
    return tuple(
        other
        for other in devices
        if other.name != device.name
        and isinstance(other.link, UartSettings)
        and port_number(other.link.uart) == mine
    )
