"""A gateway of its own for each test. A `conftest.py` imports it for the tests of its folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from lab.farm import Farm, farm


@pytest_asyncio.fixture(name="farm")
async def farm_in_a_folder(tmp_path: Path) -> AsyncIterator[Farm]:
    """Give a broker, a daemon and its devices, each a process."""
    async with farm(tmp_path) as whole:
        yield whole
