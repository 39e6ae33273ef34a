"""How much of a noisy line becomes image, and what holds on every line; in virtual time.

The figures that the bench prints are of larger images; here they are high enough to show that it works.
"""

import statistics
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from lab.rcp.joined import make_image
from lab.rcp.noisy_line import PTY, NoisyLine, carry
from lab.seeds import seeds

SLOW, FAST = 11520, 92160
IMAGE = make_image(128 * 1024)
SMALL = make_image(24 * 1024)
FTDI_S = 0.016


@pytest.mark.slow
@pytest.mark.parametrize("buffer", [4096, PTY])
@pytest.mark.parametrize(
    ("rate", "flip_rate", "least"),
    [(SLOW, 1e-4, 0.85), (SLOW, 1e-3, 0.57), (FAST, 1e-4, 0.77), (FAST, 1e-3, 0.33)],
)
def test_no_more_is_under_way_than_the_line_needs(
    rate: int, flip_rate: float, least: float, buffer: float
) -> None:
    line = NoisyLine(rate, flip_rate, buffer=buffer)
    assert statistics.median(carry(line, IMAGE, seed).efficiency for seed in seeds(9)) >= least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "least"),
    [
        (NoisyLine(SLOW), 0.98),
        (NoisyLine(FAST), 0.975),  # of a short transfer; the bench has the long one
        (NoisyLine(FAST, latency_s=0.02), 0.84),  # what the window allows
        (NoisyLine(FAST, latency_s=0.02, window=8192), 0.95),
        (NoisyLine(FAST, latency_s=0.002, timer_s=FTDI_S), 0.97),
        (NoisyLine(FAST, halves=True), 0.97),
        (NoisyLine(FAST, buffer=4096), 0.975),
    ],
    ids=str,
)
@pytest.mark.parametrize("receiver", ["c", "python"])
def test_a_clean_line_is_used_and_nothing_sent_twice(line: NoisyLine, least: float, receiver: str) -> None:
    carried = carry(replace(line, receiver=receiver), IMAGE)
    assert carried.efficiency >= least
    assert (carried.repeated, carried.probes) == (0, 0)


@pytest.mark.slow
@settings(
    max_examples=len(seeds(90)),
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
@given(
    line=st.builds(
        NoisyLine,
        rate=st.sampled_from([960, SLOW, FAST]),
        flip_rate=st.sampled_from([0.0, 0.0, 2e-5, 1e-4, 1e-3]),
        latency_s=st.floats(0, 0.05),
        window=st.sampled_from([1024, 3000, 4096, 16384]),
        buffer=st.sampled_from([0, 4096, PTY]),
        halves=st.booleans(),
        timer_s=st.sampled_from([0.0, FTDI_S]),
        receiver=st.sampled_from(["c", "python"]),
    ),
    seed=st.integers(0, 1000),
)
def test_on_every_line_a_transfer_ends_within_its_bounds(line: NoisyLine, seed: int) -> None:
    """joined.Lab fails when DATA goes beyond credit or window, or when the transfer does not end."""
    carried = carry(line, SMALL, seed)
    event("clean" if not line.flip_rate else "noisy")
    if not line.flip_rate:
        assert carried.repeated == 0
