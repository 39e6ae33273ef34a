"""The benchmark of a noisy line measures what it says, and its figures are held against their goals."""

from suites.bench import noise
from suites.bench.goals import misses
from suites.bench.section import Scale


async def test_every_cell_has_a_figure_and_a_row() -> None:
    rows = await noise.run(Scale(1, is_quick=True))
    assert len(rows) == len(noise.cells()) == len(noise.table(rows).splitlines()) - 2
    # What waits when the rate halves leaves as it would have: of a short transfer that is more than all.
    assert all(0 < row["efficiency"] < 1.05 for row in rows)
    assert {row["buffer"] for row in rows} == {None, noise.ADAPTER_BYTES}
    assert any(row["halves"] for row in rows)


def test_a_figure_below_its_goal_is_a_miss() -> None:
    row = {"rate": 11520, "flip_rate": 1e-4, "latency_s": 0.005, "timer_s": 0.0, "efficiency": 0.86}
    assert len(list(misses({"rcp_noise": [row]}))) == 1
    assert not list(misses({"rcp_noise": [row | {"efficiency": 0.87}]}))
    assert not list(misses({"rcp_noise": [row | {"timer_s": 0.016}]}))
