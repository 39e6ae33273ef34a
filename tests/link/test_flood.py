"""How much of a flood is read."""

import pytest

from gatewayd.link.flood import BURST_BYTES, LEAST_BYTES_PER_S, PIECE_BYTES, Allowance


def taken_in(seconds: float, baud: int) -> int:
    """Take pieces as early as allowed; return how many bytes that was."""
    allowance, now, size = Allowance(baud), 1000.0, 0
    while True:
        now += allowance.wait_s(now)
        if now > 1000.0 + seconds:
            return size
        allowance.took(PIECE_BYTES, now)
        size += PIECE_BYTES


def test_a_burst_passes_at_once() -> None:
    allowance = Allowance(115200)
    assert allowance.wait_s(5.0) == 0.0
    allowance.took(BURST_BYTES, 5.0)
    assert allowance.wait_s(5.0) == 0.0
    allowance.took(1, 5.0)
    assert allowance.wait_s(5.0) > 0.0


@pytest.mark.attack("a line that never falls silent")
@pytest.mark.parametrize(
    ("baud", "rate"), [(9600, LEAST_BYTES_PER_S), (115200, LEAST_BYTES_PER_S), (4_000_000, 800_000)]
)
def test_what_does_not_end_comes_at_a_bounded_rate(baud: int, rate: int) -> None:
    assert taken_in(10.0, baud) == pytest.approx(BURST_BYTES + 10 * rate, abs=2 * PIECE_BYTES)


@pytest.mark.parametrize("baud", [9600, 115200, 921600])
def test_a_real_line_never_waits(baud: int) -> None:
    allowance, now = Allowance(baud), 0.0
    for _ in range(10_000):
        now += 100 * 10 / baud
        assert allowance.wait_s(now) == 0.0
        allowance.took(100, now)


def test_silence_allows_one_burst_and_not_more() -> None:
    allowance = Allowance(115200)
    allowance.took(10, 0.0)
    allowance.took(BURST_BYTES, 1e6)
    assert allowance.wait_s(1e6) == 0.0
    allowance.took(PIECE_BYTES, 1e6)
    assert allowance.wait_s(1e6) == pytest.approx(PIECE_BYTES / LEAST_BYTES_PER_S)
