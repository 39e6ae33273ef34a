"""The benchmark of the radio reaches its goals: its time is virtual, so that tests may ask for them."""

from dataclasses import asdict
from itertools import product

import pytest

from suites.bench.goals import misses
from suites.bench.radio import (
    INTERVALS_MS,
    MTUS,
    PACKETS,
    TRANSFER_S,
    Cell,
    cells,
    measure_in_virtual_time,
)


@pytest.mark.parametrize(
    "cell",
    [
        *(Cell(mtu, 50, 4) for mtu in MTUS),
        Cell(247, 30, 6, devices=8),
    ],
    ids=lambda cell: f"{cell.devices}x{cell.mtu}",
)
def test_the_airtime_is_used(cell: Cell) -> None:
    efficiency = measure_in_virtual_time(cell, TRANSFER_S)
    row = {"efficiency": efficiency, **asdict(cell)}
    assert efficiency < 1
    assert not list(misses({"rcp_ble": [row]}))
    assert list(misses({"rcp_ble": [row | {"efficiency": 0.79}]}))


def test_what_is_measured_covers_packets_and_intervals() -> None:
    single = {cell for cell in cells() if cell.devices == 1}
    assert single == {Cell(*each) for each in product(MTUS, INTERVALS_MS, PACKETS)}
