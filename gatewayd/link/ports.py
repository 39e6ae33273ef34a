"""The serial ports of this machine: their stable names, and whether opening one may reset its board.

Linux raises DTR and RTS whenever a port with these lines is opened, before a program can prevent it; on many
boards one of them is wired to reset. USB adapters and a PC's own connector have the lines. A UART inside a
system-on-chip usually exposes data only, and a pseudo-terminal has no lines at all.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from serial.tools.list_ports_linux import SysFS

_TTYS = Path("/sys/class/tty")
_BY = (Path("/dev/serial/by-id"), Path("/dev/serial/by-path"))
# 8250 drivers reserve ttyS0 to ttyS31 on this placeholder, with or without hardware.
_PLACEHOLDER = "/platform/serial8250"
_UNKNOWN_UART = "0"


class Kind(StrEnum):
    """The kind of hardware behind a port."""

    USB = "usb"
    BUILT_IN = "built-in"
    PTY = "pty"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Port:
    """A port. `name`: the stable name for a configuration; `node`: the device node it now leads to."""

    name: str
    node: str
    description: str
    kind: Kind
    may_reset: bool
    is_console: bool = False


def machine_ports() -> tuple[Port, ...]:
    """List the ports that have hardware behind them, in the order of their nodes."""
    names = sorted((entry.parent.name for entry in _TTYS.glob("*/device")), key=_natural)
    infos = [info for name in names if (info := _look_up(name)) is not None and is_real(info)]
    links, twins = stable_links(), twins_among(infos)
    return tuple(make_port(info, links, is_twin=info.device in twins) for info in infos)


def named_port(path: str) -> Port:
    """Describe the port that `path` leads to, which need not exist. A link keeps its name."""
    path = os.path.abspath(path)  # noqa: PTH100 - pathlib's resolve() would follow links
    node = os.path.realpath(path)
    info = _look_up(Path(node).name) if node.startswith("/dev/tty") else None
    if info is not None:
        known = next((port for port in machine_ports() if port.node == node), None)
        port = known or make_port(info, {}, is_twin=False)
        name = port.name if path == node else path
        return Port(name, node, port.description, port.kind, port.may_reset, port.is_console)
    kind = Kind.PTY if node.startswith("/dev/pts/") else Kind.OTHER
    return Port(path, node, "", kind, may_reset=False)


def make_port(info: SysFS, links: dict[str, list[str]], *, is_twin: bool) -> Port:
    """Describe a port from the system's facts. `is_twin`: another one has the same by-id name."""
    kind, may_reset = classify(info.subsystem or "", info.device_path or "")
    names = [link for link in links.get(info.device, []) if not (is_twin and "/by-id/" in link)]
    description = "" if info.description in ("n/a", info.name) else info.description
    is_console = info.name in _consoles()
    return Port([*names, info.device][0], info.device, description, kind, may_reset, is_console)


def classify(subsystem: str, device_path: str) -> tuple[Kind, bool]:
    """Return the kind, and whether the port has lines that may reset a board."""
    if subsystem in ("usb", "usb-serial"):
        return Kind.USB, True
    if re.match(r"/sys/devices/pnp|.*/pci", device_path) or _PLACEHOLDER in device_path:
        return Kind.BUILT_IN, True  # a PC's connector, or a card's
    if subsystem in ("serial-base", "platform", "amba", "spi", "i2c", "sc16is7xx"):
        return Kind.BUILT_IN, False
    return Kind.OTHER, True  # rfcomm, gadgets: unknown, so assume it may


def is_real(info: SysFS) -> bool:
    """Whether there is hardware. Only root and the port's group can read the driver's answer."""
    try:
        return (_TTYS / info.name / "type").read_text().strip() != _UNKNOWN_UART
    except OSError:
        return _PLACEHOLDER not in (info.device_path or "")


def stable_links() -> dict[str, list[str]]:
    """Return udev's names of each node: by-id first, then by-path."""
    found: dict[str, list[str]] = {}
    for folder in _BY:
        for link in sorted(folder.glob("*")):
            found.setdefault(os.path.realpath(link), []).append(str(link))
    return found


def twins_among(infos: Iterable[SysFS]) -> set[str]:
    """Return the nodes of adapters whose by-id name is that of another adapter, too.

    They have the same serial number, or none. The ports of one adapter have names of their own.
    """
    ports = [info for info in infos if info.vid is not None]
    adapters: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for info in ports:
        adapters[_by_id(info)].add(info.usb_device_path or info.device)
    return {info.device for info in ports if len(adapters[_by_id(info)]) > 1}


def _by_id(info: SysFS) -> tuple[Any, ...]:
    """Return what udev makes a port's by-id name of: `…/1-1.3:1.0` is interface 0 of an adapter."""
    interface = (info.usb_interface_path or "").rpartition(":")[2]
    return info.vid, info.pid, info.serial_number or "", interface


def _look_up(name: str) -> SysFS | None:
    if not (_TTYS / name / "device").exists():
        return None
    try:
        return SysFS(f"/dev/{name}")
    except (OSError, TypeError, ValueError):  # unplugged while it was read
        return None


def _consoles() -> list[str]:
    try:
        return (_TTYS / "console" / "active").read_text().split()
    except OSError:
        return []


def _natural(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)
