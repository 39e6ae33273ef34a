"""Folders in memory: hundreds of databases that sync every transaction wear out a disk and a patience."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a random name in it


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Stand in for pytest's own."""
    with TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Path(folder)
