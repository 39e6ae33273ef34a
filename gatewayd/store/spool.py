"""Messages on disk, each under the SHA-256 of its bytes.

A file that exists is complete: it was synced before it got its name.
"""

import errno
import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path

from gatewayd.errors import HostError
from gatewayd.store.disk import make_directory, sync
from gatewayd.store.quarantine import Quarantine

_NAME = re.compile(r"[0-9a-f]{64}")
# Our own files never fail like that: something else is in their place, and must be moved away.
_NO_MESSAGE = {errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP}


class Spool:
    """A directory of messages as they arrived (still encrypted where they came encrypted)."""

    def __init__(self, directory: Path, quarantine: Quarantine | None = None) -> None:
        self._directory = directory
        self._quarantine = quarantine or Quarantine(directory.parent / "quarantine")
        self._tmp = directory / "tmp"
        make_directory(self._tmp)

    def write(self, payload: bytes) -> tuple[str, bool]:
        """Store durably; return the SHA-256 in hex, and whether a file had to be written.

        A message that is already there, whole, is not written again.
        """
        sha256 = hashlib.sha256(payload).hexdigest()
        path = self._directory / sha256
        if self._has(path, payload):
            sync(self._directory)  # a crash may have come before this was synced
            return sha256, False
        draft = self._tmp / sha256  # only one thread writes; what a crash left is overwritten
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync(self._directory)
        return sha256, True

    def read(self, sha256: str) -> bytes:
        """Return a message.

        Raises HostError `spool_damaged` unless the file exists and its bytes still hash to its name. If
        they do not, it is put into quarantine.
        """
        path = self._directory / sha256
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise HostError(
                f"{path} is gone", code="spool_damaged", hint="it is requested from the broker again"
            ) from None
        except OSError as error:
            moved = self._put_away(path) if error.errno in _NO_MESSAGE else ""
            raise HostError(
                f"{path} cannot be read: {error.strerror}{moved}",
                code="spool_damaged",
                hint="it is requested from the broker again; check the disk",
            ) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise HostError(
                f"{path} did not hold the bytes it was written with{self._put_away(path)}",
                code="spool_damaged",
                hint="it is requested from the broker again; check the disk",
            )
        return content

    def holds(self, sha256: str) -> bool:
        """Whether there is a file of that name; `read` says whether it is whole."""
        return bool(_NAME.fullmatch(sha256)) and (self._directory / sha256).is_file()

    def _has(self, path: Path, payload: bytes) -> bool:
        """Whether the message is there, complete. Anything else in its place is moved away."""
        try:
            return path.read_bytes() == payload
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in _NO_MESSAGE:
                self._quarantine.put([path], f"{path} was not a readable file")
            return False

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except IsADirectoryError:  # not ours, so not ours to delete
            self._quarantine.put([path], f"{path} was a directory")

    def _put_away(self, path: Path) -> str:
        """Move a damaged file out of the way; return how to end the error message."""
        try:
            folder = self._quarantine.put([path], f"{path} was damaged and is not used")
        except OSError as error:  # the disk that damaged it may refuse the move
            return f", and it could not be moved away: {error.strerror}"
        return f"; it is in {folder}"

    def keep_only(self, wanted: Collection[str]) -> list[str]:
        """Remove unreferenced messages and half-written files; return the names of the messages."""
        removed = []
        for path in self._directory.iterdir():
            if _NAME.fullmatch(path.name) and path.name not in wanted:
                self._remove(path)
                removed.append(path.name)
        for path in self._tmp.iterdir():
            self._remove(path)
        return removed
