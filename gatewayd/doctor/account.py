"""For whom permissions are judged: the user that the daemon runs as, whoever runs the doctor.

Root may open everything, so trying would prove nothing. So the doctor compares mode bits with the account;
where it runs as that account itself, it asks the system, which also knows of access control lists.
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
        """As whom a process runs, with the groups it really has. Raises OSError when it is gone."""
        lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
        facts = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        gids = {int(facts["Gid"][1]), *map(int, facts["Groups"])}
        uid = int(facts["Uid"][1])
        return cls(_name(uid), uid, frozenset(gids))

    @classmethod
    def of_user(cls, uid: int) -> "Account":
        """A user with the groups of the next login."""
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
        """Whether mode, owner and group allow what is wanted."""
        if self.uid == 0:
            return True
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.gids else 0
        return status.st_mode >> shift & want == want

    def obstacle(self, path: Path, want: int) -> str:
        """Say what keeps this account from `path`; nothing when it may. Raises FileNotFoundError."""
        try:
            status = path.stat()
        except PermissionError:
            return self._told(path, want)  # true of whoever runs the doctor, which is all we can know
        if self.is_me:
            return "" if os.access(path, want, effective_ids=True) else self._told(path, want)
        for folder in reversed(path.absolute().parents):
            if not self.may(folder.stat(), ENTER):
                return self._told(folder, ENTER)
        return "" if self.may(status, want) else self._told(path, want)

    def _told(self, path: Path, want: int) -> str:
        return f"{self.name} may not {_WORDS[want]} {path}"


def owner_name(uid: int) -> str:
    """Name a user."""
    return _name(uid)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
