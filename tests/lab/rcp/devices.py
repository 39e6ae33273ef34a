"""Every receiver there is, behind one interface: what the lab joins a gateway with."""

import itertools
import random
from typing import Protocol

from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.file_store import MemoryFileStore
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver
from lab.c_receiver import CReceiver

OLD = random.Random(0).randbytes(700)
PROFILE = DeviceProfile(app_id="pump", version="1.0.0", slot_size=65536)


class FaultyFlash(Protocol):
    """Flash that a test can cut the power of: in the operation numbered `cut_at`."""

    cut_at: int | None

    @property
    def operations(self) -> int: ...


class Device(Protocol):
    """What the lab needs of a receiver."""

    @property
    def flash(self) -> FaultyFlash: ...
    @property
    def baud(self) -> int: ...
    @property
    def running_image(self) -> bytes | None: ...
    @property
    def running_version(self) -> str: ...
    @property
    def profile(self) -> DeviceProfile: ...
    @property
    def state(self) -> str: ...

    def connect(self, max_datagram: int) -> None: ...
    def receive_data(self, data: bytes, now: float) -> None: ...
    def data_to_send(self, now: float) -> bytes: ...
    def next_deadline(self) -> float | None: ...
    def handle_timeout(self, now: float) -> None: ...
    def power_cut(self, now: float) -> None: ...


class DeviceFactory(Protocol):
    """Makes a device; on a datagram link where it says how much one carries."""

    def __call__(self, profile: DeviceProfile = ..., max_datagram: int | None = None) -> Device: ...


def python_device(profile: DeviceProfile = PROFILE, max_datagram: int | None = None) -> Device:
    """The receiver in Python, running OLD."""
    device = Receiver(profile, bootloader=_running_old(profile), boot_ids=itertools.count(1))
    if max_datagram is not None:
        device.connect(max_datagram)
    return device


def c_device(profile: DeviceProfile = PROFILE, max_datagram: int | None = None) -> Device:
    """The receiver in C, running OLD."""
    return CReceiver(profile, bootloader=_running_old(profile), max_datagram=max_datagram)


def _running_old(profile: DeviceProfile) -> Bootloader:
    files = MemoryFileStore()
    files.write("active.bin", OLD)
    return Bootloader(files, profile)


DEVICES: dict[str, DeviceFactory] = {"python": python_device, "c": c_device}
