"""The account whose permissions are checked: the user the daemon runs as, not the one running the doctor.

Root may open everything, so opening files as root would prove nothing. The doctor compares mode bits with the
account instead; if it runs as that account itself, it asks the system, which also honours access control
lists.
"""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

READ, WRITE, ENTER = 4, 2, 1
_WORDS = {READ: "read", WRITE: "write", READ | WRITE: "open", WRITE | ENTER: "write in", ENTER: "enter"}


@dataclass(frozen=True, slots=True)
class Account:
    """A user with its groups."""

    name: str
    uid: int
    gids: frozenset[int]

    @classmethod
    def of_process(cls, pid: int) -> "Account":
        """Return the account of a process, with its actual groups. Raises OSError if it has ended."""
        lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
        facts = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        gids = {int(facts["Gid"][1]), *map(int, facts["Groups"])}
        uid = int(facts["Uid"][1])
        return cls(_name(uid), uid, frozenset(gids))

    @classmethod
    def of_user(cls, uid: int) -> "Account":
        """Return a user, with the groups of its next login."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(str(uid), uid, frozenset())
        return cls(entry.pw_name, uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))

    @property
    def is_me(self) -> bool:
        """Whether the doctor runs as this account, and is not root."""
        return self.uid == os.geteuid() != 0

    def may(self, status: os.stat_result, want: int) -> bool:
        """Whether mode, owner and group allow the access `want`."""
        if self.uid == 0:
            return True
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.gids else 0
        return status.st_mode >> shift & want == want

    def obstacle(self, path: Path, want: int) -> str:
        """Describe what keeps this account from `path`; "" if nothing does. Raises FileNotFoundError."""
        try:
            status = path.stat()
        except PermissionError:
            return self._denied(path, want)  # for the user running the doctor; nothing more can be known
        if self.is_me:
            return "" if os.access(path, want, effective_ids=True) else self._denied(path, want)
        for folder in reversed(path.absolute().parents):
            if not self.may(folder.stat(), ENTER):
                return self._denied(folder, ENTER)
        return "" if self.may(status, want) else self._denied(path, want)

    def _denied(self, path: Path, want: int) -> str:
        return f"{self.name} may not {_WORDS[want]} {path}"


def owner_name(uid: int) -> str:
    """Return a user's name."""
    return _name(uid)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
