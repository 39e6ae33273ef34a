"""Labs for stories about updates, with every receiver there is."""

import dataclasses

import pytest
from lab.rcp.devices import DEVICES, PROFILE, DeviceFactory
from lab.rcp.joined import Lab, packet_gateway, rcp_gateway
from lab.rcp.line import Faults
from lab.rcp.radio import Airtime
from lab.rcp.stories import MakeLab

LINES = {
    "perfect": (0.0, Faults()),
    "one byte": (0.001, Faults(one_byte=True)),
    "lossy": (0.005, Faults(flip=1e-4, drop=1e-4, lose=0.02)),
    "delayed": (0.3, Faults()),
}
AIRTIMES = {
    "fast radio": Airtime(),
    "losing radio": Airtime(0.03, 4, lose=0.02),
    "slow radio": Airtime(0.3, 2),
}


@pytest.fixture(params=DEVICES)
def make_device(request: pytest.FixtureRequest) -> DeviceFactory:
    return DEVICES[request.param]


@pytest.fixture
def packet() -> int | None:
    """What a datagram carries; tests that are about datagrams, too, have it parametrised."""
    return None


@pytest.fixture
def make_lab(make_device: DeviceFactory, packet: int | None) -> MakeLab:
    """Make a lab with a good line; keywords of DeviceProfile change the device."""
    session = rcp_gateway if packet is None else packet_gateway

    def make(*, lab: dict[str, object] | None = None, **changes: object) -> Lab:
        profile = dataclasses.replace(PROFILE, **changes)  # type: ignore[arg-type]  # fields by name
        options = {"make_session": session, "latency_s": 0.002, "packet": packet, **(lab or {})}
        return Lab(make_device(profile, packet), **options)  # type: ignore[arg-type]  # as above

    return make


RADIOS = [("fast radio", 20), ("losing radio", 20), ("losing radio", 244), ("slow radio", 244)]


@pytest.fixture(params=[*LINES, *RADIOS], ids=str)
def lab(request: pytest.FixtureRequest, make_device: DeviceFactory) -> Lab:
    if request.param in LINES:
        latency_s, faults = LINES[request.param]
        return Lab(make_device(PROFILE), latency_s=latency_s, faults=faults, seed=3)
    name, size = request.param
    device = make_device(PROFILE, size)
    return Lab(device, packet_gateway, packet=size, airtime=AIRTIMES[name], seed=3)
