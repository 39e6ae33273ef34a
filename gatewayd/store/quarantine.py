"""Where damaged files go: out of the way, but kept for a person to examine."""

import contextlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gatewayd.store.disk import make_directory, sync

# Enough to show that damage recurs, without filling the disk.
KEPT = 3
WHY = "why.txt"


class Quarantine:
    """The directory; made when it is needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, files: Sequence[Path], why: str) -> Path:
        """Move those of `files` that exist into a folder of their own, durably, and return the folder.

        `why` is kept with them; `doctor` reports it until the folder is deleted.
        """
        folder = self._new_folder()
        with contextlib.suppress(OSError):  # a full disk must not keep a damaged file in its place
            (folder / WHY).write_text(f"{why}\n")
        for file in files:
            if file.exists() or file.is_symlink():
                shutil.move(file, folder / file.name)
        for directory in (folder, *{file.parent for file in files}):
            sync(directory)
        others = sorted(other for other in self.directory.iterdir() if other != folder)
        for old in others[: max(0, len(others) + 1 - KEPT)]:
            shutil.rmtree(old, ignore_errors=True)
        return folder

    def _new_folder(self) -> Path:
        """Create a folder named after the time; it is unique even if the clock is wrong."""
        make_directory(self.directory, mode=0o700)
        while True:
            folder = self.directory / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                continue
            sync(self.directory)
            return folder
