"""What an attempt needs from the rest of the daemon, and whom it notifies."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gatewayd.config import Device
from gatewayd.delivery.console import ConsoleLimits
from gatewayd.delivery.progress import TransferProgress
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.model import Job
from gatewayd.link.base import Link
from gatewayd.protocol.session import DeviceInfo, TransferSession
from gatewayd.store.store import Store


class Watcher(Protocol):
    """Notified of each event of an attempt; its methods return without waiting."""

    def job_moved(self, job: Job) -> None:
        """A job changed state or facts."""

    def progressed(self, job: Job, progress: TransferProgress) -> None:
        """Bytes arrived at the device; called a few times a second."""

    def device_seen(self, device: Device, info: DeviceInfo) -> None:
        """A device was identified."""

    def line_contested(self, device: Device, reason: str) -> None:
        """The device was identified, and another program reads on its line."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What an attempt needs; created once by the daemon, faked in tests."""

    store: Store
    firmware: FirmwareReader
    watcher: Watcher
    make_link: Callable[[Device], Link]
    make_session: Callable[[Device], TransferSession]
    clock: Callable[[], float]
    console: ConsoleLimits = field(default_factory=ConsoleLimits)
