from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from e2e_lab import Farm, farm


@pytest_asyncio.fixture(name="farm")
async def _farm(tmp_path: Path) -> AsyncIterator[Farm]:
    async with farm(tmp_path) as whole:
        yield whole
