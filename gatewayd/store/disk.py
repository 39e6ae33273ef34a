"""What a failed read or write means, and a ballast that is released when the disk is full.

A full disk fails INSERT and UPDATE alike. So 1 MiB is kept in reserve, and released when something must be
recorded: that a job failed, or that a device was told to start its new image. Messages may not use it: one
that does not fit is not acknowledged, and the broker sends it again.
"""

import errno
import os
import sqlite3
from pathlib import Path

from gatewayd.errors import HostError

BALLAST_BYTES = 1024 * 1024
# Created again only if as much stays free besides: it must not be what fills the disk.
_NEEDED_BYTES = 2 * BALLAST_BYTES

_FULL = {errno.ENOSPC, errno.EDQUOT}
_MIB = 1024 * 1024
# What SQLite reports when a full disk has no room for its -shm or its journal.
_FOR_WANT_OF_SPACE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}
# After these nothing in the database can be trusted.
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Ballast:
    """The reserve in a directory."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "ballast"

    @property
    def is_there(self) -> bool:
        """Whether there is a reserve to release."""
        return self._file.exists()

    def take(self) -> None:
        """Create it if there is room. Never raises: the reserve is only a safety margin."""
        try:
            if self.is_there or _free_bytes(self._file.parent) < _NEEDED_BYTES:
                return
            handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, BALLAST_BYTES)
            finally:
                os.close(handle)
        except OSError:
            self.throw_off()

    def throw_off(self) -> bool:
        """Release it; False: there was none."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True


def make_directory(directory: Path, mode: int = 0o777) -> None:
    """Create a directory and its missing parents, durably: each parent is synced."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=mode if path == directory else 0o777, exist_ok=True)
        sync(path.parent)
    directory.mkdir(mode=mode, exist_ok=True)  # raises if something else is in its place


def sync(path: Path) -> None:
    """Return once a file, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_full(error: Exception) -> bool:
    """Whether a failure is due to a full disk."""
    return getattr(error, "errno", None) in _FULL or _sqlite_code(error) == sqlite3.SQLITE_FULL


def is_damage(error: Exception) -> bool:
    """Whether a failure shows that the database is damaged."""
    return _sqlite_code(error) in _DAMAGED


def translate_error(error: Exception, state_dir: Path) -> HostError:
    """Return what to raise for an OSError or sqlite3.Error at the state directory."""
    number, sqlite_code = getattr(error, "errno", None), _sqlite_code(error)
    if is_damage(error):
        return HostError(
            f"the database in {state_dir} is damaged: {error}",
            code="database_damaged",
            hint="the next start puts it into quarantine and creates a new one; check the disk",
        )
    if is_full(error) or (sqlite_code in _FOR_WANT_OF_SPACE and _is_nearly_full(state_dir)):
        free = _free_bytes(state_dir) // 1024
        return HostError(
            f"the disk under {state_dir} is full ({free} KiB are free)",
            code="disk_full",
            hint="make room; gatewayd resumes by itself within a minute",
        )
    if number == errno.EROFS or sqlite_code == sqlite3.SQLITE_READONLY or _is_read_only(state_dir):
        return HostError(
            f"the disk under {state_dir} is read-only",
            code="disk_read_only",
            hint="the kernel does that after errors: see `dmesg`; `mount -o remount,rw` if the disk is sound",
        )
    # SQLite does not say why it cannot open a file: if permissions allow it, the disk failed.
    has_failed = sqlite_code == sqlite3.SQLITE_CANTOPEN and _may_write(state_dir)
    if number == errno.EIO or sqlite_code == sqlite3.SQLITE_IOERR or has_failed:
        return HostError(
            f"the disk under {state_dir} is failing: {error}",
            code="disk_failing",
            hint="see `dmesg`; an SD card that does this needs replacing",
        )
    return HostError(
        f"cannot read or write {state_dir}: {error}",
        code="storage_failed",
        hint="is it owned by gatewayd's user, with everything in it?",
    )


def _sqlite_code(error: Exception) -> int | None:
    """Return the primary result code; the extended ones have it in their low byte."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _free_bytes(directory: Path) -> int:
    try:
        status = os.statvfs(directory)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _is_nearly_full(directory: Path) -> bool:
    return directory.exists() and _free_bytes(directory) < _MIB // 4


def _may_write(directory: Path) -> bool:
    """Whether permissions allow reading and writing the directory and what is directly in it."""
    try:
        return all(os.access(path, os.R_OK | os.W_OK) for path in (directory, *directory.iterdir()))
    except OSError:
        return False


def _is_read_only(directory: Path) -> bool:
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return False
