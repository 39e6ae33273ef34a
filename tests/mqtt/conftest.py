"""A broker of its own for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from lab.brokers import Mosquitto, ScriptedBroker


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedBroker]:
    async with ScriptedBroker() as broker:
        yield broker
