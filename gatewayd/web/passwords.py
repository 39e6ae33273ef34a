"""The password file: a line for each person, `NAME:scrypt:N:R:P:SALT:HASH`, both in base64.

Only hashes are in it, and a person who is not takes as long to refuse as a wrong password does.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gatewayd.errors import ConfigError, HostError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,31}")
SHORTEST = 8
LONGEST = 256
# 16 MiB and about 50 ms on a PC, 300 ms on a Raspberry Pi 3.
_COST = (2**14, 8, 1)
# What a file may have; another version may add some.
_COSTS = {_COST}
_MOST_BYTES = 64 * 1024
_SALT_BYTES = 16
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Hashed:
    """A password, hashed."""

    n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    @classmethod
    def of(cls, password: str) -> Self:
        """Hash a password with a new salt."""
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(*_COST, salt, _scrypt(password, salt, *_COST))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` has written. Raises ValueError."""
        kind, *numbers, salt, hashed = text.split(":")
        n, r, p = map(int, numbers)
        if kind != "scrypt" or (n, r, p) not in _COSTS:
            raise ValueError("not a hash of this version")
        return cls(n, r, p, base64.b64decode(salt, validate=True), base64.b64decode(hashed, validate=True))

    def __str__(self) -> str:
        parts = (self.n, self.r, self.p, _text(self.salt), _text(self.hash))
        return "scrypt:" + ":".join(map(str, parts))

    def fits(self, password: str) -> bool:
        """Whether this is the password's hash; takes as long as making one."""
        return hmac.compare_digest(self.hash, _scrypt(password, self.salt, self.n, self.r, self.p))


_NOBODY = Hashed(*_COST, bytes(_SALT_BYTES), bytes(_HASH_BYTES))


class PasswordFile:
    """Reads the file again when it has changed; while it cannot be read, nobody is let in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._people: dict[str, Hashed] = {}

    def load(self) -> dict[str, Hashed]:
        """Return everybody. Raises ConfigError, or HostError `file_exposed`."""
        about = _stat(self.path)
        if (seen := (about.st_mtime_ns, about.st_size, about.st_ino)) != self._seen:
            self._people = _parse(self.path, _read(self.path))
            self._seen = seen
        return self._people

    def hash_of(self, name: str) -> Hashed | None:
        """Return a person's hash; None if there is none, or the file is unusable now."""
        with contextlib.suppress(ConfigError, HostError):
            return self.load().get(name)
        return None

    def check(self, name: str, password: str) -> Hashed | None:
        """Return the person's hash if the password is right. Takes its time: not for an event loop."""
        hashed = self.hash_of(name)
        is_right = (hashed or _NOBODY).fits(password)
        return hashed if hashed is not None and is_right else None


def set_password(path: Path, name: str, password: str | None) -> None:
    """Write a person's password, or take the person out, without a moment of half a file.

    Raises ConfigError for a name or a password that is no good, OSError.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be a name: 1 to 32 of A-Z a-z 0-9 . _ @ -, a letter or digit first"
        )
    people = _parse(path, _read(path)) if path.exists() else {}
    if password is None:
        people.pop(name, None)
    else:
        people[name] = Hashed.of(_checked(password))
    lines = [f"{person}:{hashed}\n" for person, hashed in people.items()]
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - with a mode
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
        if path.exists():
            with contextlib.suppress(PermissionError):
                os.fchown(file.fileno(), path.stat().st_uid, path.stat().st_gid)
    temporary.replace(path)


def _checked(password: str) -> str:
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"a password has {SHORTEST} to {LONGEST} characters")
    return password


def _stat(path: Path) -> os.stat_result:
    try:
        about = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", code="file_unreadable") from error
    if about.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        mode = stat.S_IMODE(about.st_mode)
        raise HostError(f"{path} has mode {mode:04o}", code="file_exposed", hint=f"chmod 600 {path}")
    return about


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"cannot read {path}: {reason}", code="file_unreadable") from error


def _parse(path: Path, text: str) -> dict[str, Hashed]:
    people = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        try:
            if not NAME.fullmatch(name):
                raise ValueError("not a name")  # noqa: TRY301 - one answer for all that can be wrong
            people[name] = Hashed.parse(rest)
        except (ValueError, binascii.Error) as error:
            hint = "`gatewayctl web-password` writes this file"
            raise ConfigError(f"{path}:{number}: not a line of a password file", hint=hint) from error
    return people


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # Twice the memory that it takes: the library counts its own, too.
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=_HASH_BYTES)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
