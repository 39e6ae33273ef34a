"""Temporary folders in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a random name in it


@pytest.fixture(name="tmp_path")
def folder_in_memory() -> Iterator[Path]:
    """Stand in for pytest's own: hundreds of databases that sync each transaction wear out a disk.

    A `conftest.py` imports it for the tests of its folder.
    """
    with a_folder() as folder:
        yield folder


@contextmanager
def a_folder() -> Iterator[Path]:
    """Make one for the length of a block, for the examples of a property."""
    with TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Path(folder)
