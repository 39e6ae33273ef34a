"""Labs for stories about updates, with every receiver there is."""

import dataclasses

import pytest
from rcp_devices import DEVICES, PROFILE, DeviceFactory
from rcp_lab import Lab
from rcp_line import Faults
from rcp_stories import MakeLab

LINES = {
    "perfect": (0.0, Faults()),
    "one byte": (0.001, Faults(one_byte=True)),
    "lossy": (0.005, Faults(flip=1e-4, drop=1e-4, lose=0.02)),
    "delayed": (0.3, Faults()),
}


@pytest.fixture(params=DEVICES)
def make_device(request: pytest.FixtureRequest) -> DeviceFactory:
    return DEVICES[request.param]


@pytest.fixture
def make_lab(make_device: DeviceFactory) -> MakeLab:
    """Make a lab with a good line; keywords of DeviceProfile change the device."""

    def make(*, lab: dict[str, object] | None = None, **changes: object) -> Lab:
        profile = dataclasses.replace(PROFILE, **changes)  # type: ignore[arg-type]  # fields by name
        return Lab(make_device(profile), **{"latency_s": 0.002, **(lab or {})})  # type: ignore[arg-type]  # as above

    return make


@pytest.fixture(params=LINES)
def lab(request: pytest.FixtureRequest, make_device: DeviceFactory) -> Lab:
    latency_s, faults = LINES[request.param]
    return Lab(make_device(PROFILE), latency_s=latency_s, faults=faults, seed=3)
