"""Runs in gatewayd's place, in its sandbox, and tries what it may and what it may not."""

import ctypes
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from gatewayd.systemd.journal import Journal


def write_to(folder: str) -> Callable[[], object]:
    return lambda: (Path(folder) / "probe").write_text("")


def open_socket(family: int, kind: int, protocol: int = 0) -> Callable[[], object]:
    return lambda: socket.socket(family, kind, protocol).close()


def connect_to(path: str) -> Callable[[], object]:
    return lambda: socket.socket(socket.AF_UNIX).connect(path)


def called(name: str, *arguments: int) -> Callable[[], object]:
    """Call the C library. Raises OSError."""

    def call() -> None:
        library = ctypes.CDLL(None, use_errno=True)
        if getattr(library, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)

    return call


CREDENTIAL = "/run/credentials/gatewayd.service/gatewayd.client.pem"
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
DENIED: dict[str, Callable[[], object]] = {
    **{
        f"write to {place}": write_to(place)
        for place in ("/etc", "/etc/gatewayd", "/usr", "/opt", "/run", "/var/log", "/var")
    },
    "see /home": lambda: next(Path("/home").iterdir()),
    "see /root": lambda: Path("/root/lab").stat(),
    "see another's /tmp": lambda: Path("/tmp/of-another").stat(),  # noqa: S108 - it is there
    "see /proc/1": lambda: Path("/proc/1/status").read_text(),
    "see /proc/meminfo": lambda: Path("/proc/meminfo").read_text(),
    "read a credential's source": lambda: Path("/etc/credstore/gatewayd.client.pem").read_bytes(),
    "a device that its mode would let it have": lambda: os.close(os.open("/dev/everybodys", os.O_RDONLY)),
    "speak to the kernel (AF_NETLINK)": open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "see every packet (AF_PACKET)": open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "a raw socket": open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "a radio of its own (AF_BLUETOOTH)": open_socket(31, socket.SOCK_RAW),
    "become root": lambda: os.setuid(0),
    "memory that is written and run": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
    "real-time priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "a file that makes others its user": lambda: Path("/var/lib/gatewayd/own").chmod(0o4700),
    "another host name": lambda: socket.sethostname(socket.gethostname()),
    "trace a process": called("ptrace", 0),
    # The last one: who has a user namespace of its own may less than before outside of it.
    "a namespace of its own": called("unshare", CLONE_NEWUSER | CLONE_NEWNS),
}
ALLOWED: dict[str, Callable[[], object]] = {
    "write to its state": lambda: Path("/var/lib/gatewayd/own").write_text(""),
    "write to its runtime directory": write_to("/run/gatewayd"),
    "read its credential": lambda: Path(CREDENTIAL).read_bytes(),
    "IP": open_socket(socket.AF_INET, socket.SOCK_STREAM),
    "IPv6": open_socket(socket.AF_INET6, socket.SOCK_STREAM),
    "D-Bus": connect_to("/run/dbus/system_bus_socket"),
    "a line of a million characters": lambda: Journal(sys.stdout).info(MESSAGE="x" * 10**6, PRIORITY="6"),
    "its serial port": lambda: os.close(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)),
}


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (OSError, StopIteration) as error:
        return str(error) or "nothing there"
    return ""


if __name__ == "__main__":
    could = {name: outcome(attempt) for name, attempt in ALLOWED.items()}
    could_not = {name: outcome(attempt) for name, attempt in DENIED.items()}
    json.dump({"allowed": could, "denied": could_not}, sys.stdout)
