"""The benchmark of the line measures what it says; its figures are looked at by people, not by tests."""

import pytest
from lab.farm import RECEIVERS

from suites.bench import many
from suites.bench.bare_loop import bare_cpu_s
from suites.bench.cut import CUTS, LATENCY_MS, repeated_bytes
from suites.bench.goals import misses
from suites.bench.line import FLIP_RATES, LATENCIES_MS, Cell, cells, measure, summary
from suites.bench.resources import BARE_LOOP, DAEMON
from suites.bench.transfer import FAST, SLOW

# 1024 bytes of payload travel in 1037 or more: type, session, offset, CRC, COBS and two delimiters.
CEILING = 1024 / 1037
# What docs/protocol.md promises: one window and one erase block, both 4096 here.
MOST_REPEATED = 4096 + 4096


@pytest.mark.parametrize(
    "cell",
    [
        *(Cell(receiver, FAST, 5, 0) for receiver in RECEIVERS),
        Cell("c", FAST, 0, 0, chunk=4096, window=16384),
    ],
    ids=lambda cell: f"{cell.receiver}-{cell.chunk}",
)
async def test_a_transfer_is_paced_by_its_line(cell: Cell) -> None:
    efficiency = await measure(cell, size=64_000, seed=1)
    assert 0 < efficiency < max(CEILING, cell.chunk / (cell.chunk + 13))


def test_what_is_measured_covers_the_line_the_chunks_and_both_receivers() -> None:
    measured = set(cells())
    for rate in (SLOW, FAST):
        for latency_ms in LATENCIES_MS:
            line = [cell for cell in measured if (cell.rate, cell.latency_ms) == (rate, latency_ms)]
            assert {cell.flip_rate for cell in line if cell.chunk == 1024} == set(FLIP_RATES)
        assert {cell.chunk for cell in measured if cell.rate == rate} == {256, 512, 1024, 2048, 4096}
    assert {cell.receiver for cell in measured} == set(RECEIVERS)
    assert all(cell.window >= 4 * min(cell.chunk, 1024) for cell in measured)


def test_the_document_has_what_scripts_rely_on() -> None:
    (row,) = summary({Cell("c", 11520, 5, 0): [0.9, 0.97, 0.98]})
    promised = {
        "receiver": "c",
        "rate": 11520,
        "latency_ms": 5,
        "flip_rate": 0,
        "chunk": 1024,
        "efficiency": 0.97,
    }
    assert row == promised | {"window": 4096, "lowest": 0.9, "highest": 0.98}


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_a_power_cut_costs_some_bytes_and_not_more_than_promised(receiver: str) -> None:
    assert LATENCY_MS > 0  # without it there would be nothing on its way
    assert 0 < await repeated_bytes(receiver, CUTS[0], seed=1, size=40_000) <= MOST_REPEATED


async def test_a_gateway_that_comes_back_sends_no_more_than_what_was_on_its_way() -> None:
    assert 0 <= await repeated_bytes("c", CUTS[1], seed=1, size=40_000) <= MOST_REPEATED


async def test_many_devices_at_once_have_a_row_and_goals() -> None:
    row = await many.measure(2, 24_000)
    assert 0 < row["lowest"] <= row["efficiency"] < CEILING
    assert row["cpu_s_per_mib"] > 0
    assert len(many.table([row]).splitlines()) == 3
    assert len(list(misses({"rcp_many": [row | {"devices": 64, "efficiency": 0.97}]}))) == 1
    assert not list(misses({"rcp_many": [row | {"devices": 128, "efficiency": 0.96}]}))
    cpu = {"sender": DAEMON, "rate": 92160, "image_mib": 1, "cpu_s_per_mib": 0.26}
    assert len(list(misses({"cpu_s_per_mib": [cpu]}))) == 1
    assert not list(misses({"cpu_s_per_mib": [cpu | {"rate": 0}]}))
    assert not list(misses({"cpu_s_per_mib": [cpu | {"sender": BARE_LOOP}]}))


async def test_the_yardstick_sends_a_whole_image() -> None:
    assert await bare_cpu_s(FAST, LATENCY_MS, 64 * 1024) > 0
