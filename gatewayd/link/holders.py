"""Which process has a port, or any file, open, as far as /proc shows it.

Root sees all. Other users see their own processes, and of everybody else's, those with a controlling terminal
(a login on a serial console, a shell): the terminal's number is in `stat`, which everybody may read.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gatewayd.config.shared_ports import PTY_MAJORS

_TTY_NR = 4  # index into what follows the name in /proc/PID/stat
_MASTERS = {"/dev/ptmx", "/dev/pts/ptmx"}
_PTS = "/dev/pts/"

# A device's numbers, or a file's name.
_Identity = tuple[int, int] | str


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

    A process that holds the other end of a pseudo-terminal does not count: it is the device.
    """
    wanted = {os.path.realpath(path): path for path in paths}
    identities = {_identity(path): path for path in wanted}
    terminals = {number: path for path in wanted if (number := _terminal_number(path))}
    found: dict[str, Holder] = {}
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        for path in _held(process, identities, terminals):
            found.setdefault(wanted[path], Holder(_name(process), int(process.name)))
    return found


def _held(process: Path, identities: dict[_Identity, str], terminals: dict[int, str]) -> set[str]:
    """Return which of the wanted paths the process has open."""
    held = set()
    try:
        # A name is cut off after 15 bytes, in the middle of a letter perhaps.
        fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
        path = terminals.get(int(fields[_TTY_NR]))
        if path is not None and not (path.startswith(_PTS) and _is_elsewhere(process)):
            held.add(path)
        links = {fd.name: str(fd.readlink()) for fd in (process / "fd").iterdir()}
        opened = {_identity_of(process / "fd" / fd, target) for fd, target in links.items()}
        held |= {path for identity, path in identities.items() if identity in opened}
        if held:
            held -= _far_ends(process, links)
    except (OSError, IndexError, ValueError):  # not readable for us, or the process has ended
        pass
    return held


def _identity_of(fd: Path, target: str) -> _Identity:
    """Return the identity of a file that a process has open."""
    return _identity(str(fd), target) if target.startswith("/dev/") else target


def _identity(path: str, name: str | None = None) -> _Identity:
    """Return a file's identity: for a device its number, which is the same in a container's /dev.

    Pseudo-terminals are different: each container numbers its own from 0, in its own file system.
    """
    try:
        status = Path(path).stat()
    except OSError:
        return name or path
    if not stat.S_ISCHR(status.st_mode):
        return name or path
    return status.st_rdev, status.st_dev if os.major(status.st_rdev) in PTY_MAJORS else 0


def _is_elsewhere(process: Path) -> bool:
    """Whether a process is known to be in another mount namespace."""
    try:
        return (process / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return False


def _far_ends(process: Path, links: dict[str, str]) -> set[str]:
    """Return the pseudo-terminals whose master the process holds."""
    numbers = set()
    for fd in (name for name, target in links.items() if target in _MASTERS):
        lines = (process / "fdinfo" / fd).read_text().splitlines()
        numbers |= {line.partition(":")[2].strip() for line in lines if line.startswith("tty-index:")}
    return {f"{_PTS}{number}" for number in numbers}


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
