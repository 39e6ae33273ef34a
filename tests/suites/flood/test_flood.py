"""What `make flood` prints, and when it says no."""

from dataclasses import replace

import pytest

from suites.flood.__main__ import Figures, misses, report

GOOD = Figures(800_000, 20.0, 48.0, 90.0, 20_000, 700_000, 4.0)


def test_a_good_run_misses_nothing() -> None:
    assert not list(misses(GOOD))
    assert "800000 in 20.0 s, 40000 a second" in report(GOOD)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"peak_mib": 741.0}, "memory"),
        ({"log_bytes": 43 * 1024 * 1024}, "log"),
        ({"installed_s": None}, "never"),
        ({"installed_s": 60.0}, "after 60.0 s"),
    ],
)
def test_each_goal_can_be_missed(change: dict[str, float | None], word: str) -> None:
    (miss,) = misses(replace(GOOD, **change))  # type: ignore[arg-type]  # any of the fields
    assert word in miss
