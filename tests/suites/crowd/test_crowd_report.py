"""What `make crowd` prints, and when it says no."""

from dataclasses import replace
from typing import Any

import pytest
from lab.crowd import RATE, Bad, Found

from suites.crowd.__main__ import misses, report

IMAGE = bytes(RATE * 20)
BAD = {"silent": Bad("silent", "no_answer", attempts=2, attempt_s=5.0)}
FAILED = {"state": "failed", "code": "no_answer", "reason": "/dev/x: no answer (is it powered?)"}
LAG = {"lag_p50_ms": 0.5, "lag_p99_9_ms": 20.0, "lag_max_ms": 30.0, "samples": 250}
GOOD = Found(
    seconds={"pump-0": 20.4, "pump-1": 20.5},
    repeated={"pump-0": 0, "pump-1": 1024},
    given_up_after_s={"silent": 12.0},
    statuses={"silent": FAILED},
    images={"pump-0": IMAGE, "pump-1": IMAGE, "silent": None},
    ports={"silent": "/dev/x"},
    rss_mib=[50.0, 51.0, 50.5],
    cpu_s=5.0,
    elapsed_s=26.0,
    lag=LAG,
    log_bytes=170_000,
)


def test_a_limit_is_attempts_and_the_longest_waits_between_them() -> None:
    assert BAD["silent"].limit_s == 2 * 5 + 2 + 10


def test_nothing_is_missed() -> None:
    assert list(misses(GOOD, BAD, IMAGE)) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seconds": {"pump-0": 22.0}}, "pump-0: 90.9% of the line rate"),
        ({"images": {"pump-0": IMAGE, "pump-1": b"old"}}, "pump-1: runs another image"),
        ({"statuses": {"silent": FAILED | {"code": "stalled"}}}, "silent: failed, stalled; expected failed"),
        ({"given_up_after_s": {"silent": 23.0}}, "silent: given up after 23 s, its limit is 22 s"),
        ({"lag": LAG | {"lag_p99_9_ms": 100.0}}, "loop lag p99.9 100.0 ms"),
        ({"rss_mib": [50.0, 59.0, 51.0]}, "memory grew by 9.0 MiB"),
    ],
)
def test_each_goal_that_is_missed_is_named(changes: dict[str, Any], says: str) -> None:
    (miss,) = misses(replace(GOOD, **changes), BAD, IMAGE)
    assert miss.startswith(says)


def test_the_report_has_the_figures_and_the_reasons() -> None:
    text = report(GOOD, BAD, IMAGE)
    assert "97.6%, 97.8%, 98.0%" in text
    assert "| image bytes sent again | 1024 |" in text
    assert "| silent | no_answer | 12.0 | 22 | no answer (is it powered?) |" in text
