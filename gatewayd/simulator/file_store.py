"""Where a virtual device keeps whole files: in memory, or in its state directory. Replacing one is atomic."""

import os
from pathlib import Path
from typing import Protocol


class FileStore(Protocol):
    """A handful of named files."""

    def read(self, name: str) -> bytes | None:
        """Content, or None when there is no such file."""

    def write(self, name: str, content: bytes) -> None:
        """Create or replace, atomically."""

    def move(self, source: str, target: str) -> None:
        """Rename over `target`, atomically."""

    def remove(self, name: str) -> None:
        """Remove; harmless when there is no such file."""


class MemoryFileStore:
    """A file store in memory, for tests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """See FileStore."""
        return self.files.get(name)

    def write(self, name: str, content: bytes) -> None:
        """See FileStore."""
        self.files[name] = content

    def move(self, source: str, target: str) -> None:
        """See FileStore."""
        self.files[target] = self.files.pop(source)

    def remove(self, name: str) -> None:
        """See FileStore."""
        self.files.pop(name, None)


class DirectoryFileStore:
    """A directory. Survives the death of the process; not made to survive that of the machine."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path

    def read(self, name: str) -> bytes | None:
        """See FileStore."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """See FileStore."""
        new = self.path / f"{name}.new"
        new.write_bytes(content)
        new.replace(self.path / name)

    def move(self, source: str, target: str) -> None:
        """See FileStore."""
        os.replace(self.path / source, self.path / target)  # noqa: PTH105 - reads like what it is

    def remove(self, name: str) -> None:
        """See FileStore."""
        (self.path / name).unlink(missing_ok=True)
