"""Who has a port, or any file, open, as far as /proc lets us look.

Root sees all. Others see their own processes, and of everybody else's those that a terminal controls (a login
on a serial console, a shell): their terminal's number is in `stat`, which all may read.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TTY_NR = 4  # index into what follows the name in /proc/PID/stat
_MASTERS = {"/dev/ptmx", "/dev/pts/ptmx"}


@dataclass(frozen=True, slots=True)
class Holder:
    """A process."""

    name: str
    pid: int

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def find_holder(path: str | Path) -> Holder | None:
    """Return a process, other than this one, that has `path` open."""
    return next(iter(find_holders([str(path)]).values()), None)


def find_holders(paths: Iterable[str]) -> dict[str, Holder]:
    """Return a process, other than this one, for each of `paths` that one has open.

    Who holds the other end of a pseudo-terminal does not count: that is the device.
    """
    wanted = {os.path.realpath(path): path for path in paths}
    terminals = {number: path for path in wanted if (number := _terminal_number(path))}
    found: dict[str, Holder] = {}
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        for path in _held(process, set(wanted), terminals):
            found.setdefault(wanted[path], Holder(_name(process), int(process.name)))
    return found


def _held(process: Path, wanted: set[str], terminals: dict[int, str]) -> set[str]:
    """Which of `wanted` the process has open."""
    held = set()
    try:
        # A name is cut off after 15 bytes, in the middle of a letter perhaps.
        fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
        held = {terminals[number] for number in [int(fields[_TTY_NR])] if number in terminals}
        links = {fd.name: str(fd.readlink()) for fd in (process / "fd").iterdir()}
        held |= wanted.intersection(links.values())
        if held:
            held -= _far_ends(process, links)
    except (OSError, IndexError, ValueError):  # not ours to look into, or gone meanwhile
        pass
    return held


def _far_ends(process: Path, links: dict[str, str]) -> set[str]:
    """Return the pseudo-terminals whose master the process holds."""
    numbers = set()
    for fd in (name for name, target in links.items() if target in _MASTERS):
        lines = (process / "fdinfo" / fd).read_text().splitlines()
        numbers |= {line.partition(":")[2].strip() for line in lines if line.startswith("tty-index:")}
    return {f"/dev/pts/{number}" for number in numbers}


def _terminal_number(path: str) -> int:
    """Return the device number as `stat` in /proc writes it; 0 for what is no device."""
    try:
        status = Path(path).stat()
    except OSError:
        return 0
    if not stat.S_ISCHR(status.st_mode):
        return 0
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a process"
