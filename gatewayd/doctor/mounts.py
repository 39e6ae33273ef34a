"""Whether what the daemon stores outlives a restart of the machine."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from gatewayd.doctor.finding import Finding, ok, warning

MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_LAYERED = frozenset({"overlay", "overlayfs", "aufs"})
_COMPRESSED_MEMORY = "/dev/zram"


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system; `source` is its device, where it has one."""

    point: str
    kind: str
    source: str


def read_mounts(text: str) -> list[Mount]:
    """Read what /proc/self/mountinfo says; lines that are not understood are left out."""
    found = []
    for line in text.splitlines():
        place, _, system = line.partition(" - ")
        if len(fields := place.split(" ")) > 4 and len(words := system.split(" ")) > 1:  # noqa: PLR2004 - proc(5)
            found.append(Mount(_plain(fields[4]), words[0], _plain(words[1])))
    return found


def mount_of(path: PurePath, mounts: list[Mount]) -> Mount | None:
    """Return the mount that an absolute path is on: the deepest one, and of equals the last."""
    above = [mount for mount in mounts if path.is_relative_to(mount.point)]
    return max(reversed(above), key=lambda mount: len(PurePath(mount.point).parts), default=None)


def judge_permanence(path: Path, mount: Mount | None) -> Finding:
    """Say whether the state directory keeps what is written to it."""
    subject = "state_dir"
    if mount is None:
        return ok(subject, f"the file system of {path} is not known")
    if mount.kind in _LAYERED:
        where = f"on an overlay ({mount.point}), which usually forgets all changes when the machine restarts"
    elif mount.kind in _IN_MEMORY:
        where = f"in memory ({mount.kind} on {mount.point})"
    elif mount.source.startswith(_COMPRESSED_MEMORY):
        where = f"in memory ({mount.source} on {mount.point})"
    else:
        return ok(subject, f"{path} is on {mount.kind}, which keeps it")
    return warning(
        subject,
        f"{path} is {where}: anti-rollback marks, jobs and pauses are lost with it, and each start downloads"
        " all firmware again",
        code="state_dir_volatile",
        hint="put gateway.state_dir on a disk that keeps it, or mount one there",
    )


def examine_permanence(path: Path) -> list[Finding]:
    """Look at the file system under the state directory; nothing is said where the kernel says nothing."""
    try:
        mounts = read_mounts(MOUNTS.read_text(errors="surrogateescape"))
        found = judge_permanence(path, mount_of(path.resolve(), mounts))
    except OSError:
        return []
    return [found] if found.code else []


def _plain(text: str) -> str:
    r"""Undo the kernel's escapes: \040 is a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
