"""A line that keeps XON, XOFF or CR for itself is told from a noisy one."""

import pytest
from lab.rcp.devices import PROFILE, DeviceFactory
from lab.rcp.joined import Lab, make_image
from lab.rcp.line import Faults
from lab.rcp.stories import failed_code
from lab.seeds import seeds

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.eaten import eaten
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.session import Failed, Staged


def stalled(lab: Lab) -> Failed:
    lab.identify()
    lab.session.transfer(make_image(40_000), lab.now)
    outcome = lab.run_until_outcome(Staged)
    assert isinstance(outcome, Failed)
    return outcome


@pytest.mark.parametrize(("values", "name"), [(b"\x11\x13", "XON or XOFF"), (b"\r", "CR")])
def test_what_the_line_eats_is_named(make_device: DeviceFactory, values: bytes, name: str) -> None:
    lab = Lab(make_device(PROFILE))
    lab.losing = lambda frame: (
        isinstance(frame, frames.Data) and any(value in encode_stream(frame.to_bytes()) for value in values)
    )
    outcome = stalled(lab)
    assert failed_code(outcome) == "line_eats_bytes"
    assert name in str(outcome.error)
    assert "flow control" in outcome.error.hint


@pytest.mark.parametrize("seed", seeds(12))
def test_a_noisy_line_is_not_blamed_for_eating(make_device: DeviceFactory, seed: int) -> None:
    lab = Lab(make_device(PROFILE), faults=Faults(flip=0.006 + seed / 2000), seed=seed)
    lab.identify()
    lab.session.transfer(make_image(40_000), lab.now)
    outcome = lab.run_until_outcome(Staged)
    assert isinstance(outcome, Staged) or failed_code(outcome) != "line_eats_bytes"


def test_few_losses_and_losses_without_anything_in_common_say_nothing() -> None:
    assert not eaten([])
    assert not eaten([b"\x11"] * 11)
    assert eaten([b"\x11", b"\x13"] * 6) == "XON or XOFF (0x11, 0x13)"
    assert eaten([b"\x11\r"] * 12) == "XON or XOFF (0x11, 0x13), or CR (0x0d)"
    assert not eaten([*[b"\x11"] * 20, b"other"])
