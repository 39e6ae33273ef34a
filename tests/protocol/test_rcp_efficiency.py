"""How much of a line's rate becomes image: in virtual time, so the figures are the same on every machine.

The rate of a line in bytes a second times the time from ACCEPT to the last byte, against the image's size.
At 1024 bytes a chunk framing leaves 98.4 %.
"""

import dataclasses
import statistics
from functools import partial

import pytest
from lab.rcp.devices import PROFILE, python_device
from lab.rcp.joined import Lab, make_image, rcp_gateway
from lab.rcp.line import Faults

from gatewayd.protocol.session import Image, Progress, Staged, TransferStarted

pytestmark = pytest.mark.slow

LATENCY_S = 0.005
IMAGE = make_image(256 * 1024)
SEEDS = range(4)


def efficiency(baud: int, flip: float, seed: int = 0, image: Image = IMAGE, **changes: object) -> float:
    """Transfer, and return which part of the line's rate became image."""
    fields = {"slot_size": 1 << 20, "base_baud": baud, **changes}
    profile = dataclasses.replace(PROFILE, **fields)  # type: ignore[arg-type]  # fields by name
    lab = Lab(
        python_device(profile),
        partial(rcp_gateway, base_baud=baud),
        baud=baud,
        latency_s=LATENCY_S,
        faults=Faults(flip=flip),
        seed=seed,
    )
    lab.identify()
    assert isinstance(lab.transfer(image), Staged)
    begin = min(at for at, event in lab.events if isinstance(event, TransferStarted))
    end = max(at for at, event in lab.events if isinstance(event, Progress))
    return len(image.content) / (end - begin) / (baud / 10)


@pytest.mark.parametrize("baud", [115200, 921600])
@pytest.mark.parametrize(
    ("flip", "least"), [(0.0, 0.97), (1e-5, 0.90), (1e-4, 0.65), (3e-4, 0.45)], ids=lambda value: f"{value:g}"
)
def test_efficiency(baud: int, flip: float, least: float) -> None:
    found = [efficiency(baud, flip, seed) for seed in (SEEDS if flip else (0,))]
    print(f"{baud} baud, {flip:g} flips a byte: {statistics.mean(found):.1%}, worst {min(found):.1%}")  # noqa: T201 - the figure is the test's result
    assert statistics.mean(found) >= least


def test_a_window_of_two_chunks_still_fills_a_slow_line() -> None:
    assert efficiency(115200, 0.0, window=2048) >= 0.97


def test_small_chunks_cost_what_their_framing_costs() -> None:
    assert efficiency(115200, 0.0, max_frame=138) >= 0.9


def test_nothing_is_sent_twice_on_a_good_line() -> None:
    lab = Lab(python_device(), latency_s=0.1)
    lab.identify()
    lab.transfer(make_image(60_000))
    assert lab.session.traffic.image_bytes_repeated == lab.session.traffic.probes == 0
