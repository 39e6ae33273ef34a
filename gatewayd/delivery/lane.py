"""The schedule of one device, and what tells one appearance of its port from the next."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from gatewayd.allowance import Allowance
from gatewayd.config import Device, Settings, UartSettings
from gatewayd.delivery.attempt import Attempt
from gatewayd.jobs.model import Job
from gatewayd.jobs.transitions import INTERRUPTIBLE, JobState

RUNNABLE = frozenset({JobState.QUEUED, JobState.ACTIVATING}) | INTERRUPTIBLE
PortIdentity = tuple[int, int, int, int] | None


@dataclass(slots=True)
class Lane:
    """The schedule of one device."""

    device: Device
    settings: Settings
    job: Job | None = None
    not_before: float = 0.0
    probe_due: float | None = None
    probe_failures: int = 0
    activating_since: float | None = None
    volatile: tuple[int, int] = (0, 0)  # a job, and the most of its bytes that the device had in memory only
    on_trial_since: float | None = None
    port: PortIdentity = None
    returns: Allowance | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    is_paused: bool = False
    runner: asyncio.Task[None] | None = None
    attempt: asyncio.Task[None] | None = None
    under_way: Attempt | None = None  # what `attempt` is running, if it is a job's
    interruption: tuple[str, str] | None = None  # code and reason for ending the attempt
    is_ending: bool = False  # the attempt's result is being stored, or is about to be

    def next_due(self) -> float | None:
        """Return when there is something to do; None: nothing.

        A pause does not hold back what was activated: only the device can report the result.
        """
        if self.job is not None and self.job.state in RUNNABLE:
            is_out = self.job.state is JobState.ACTIVATING
            return self.not_before if is_out or not self.is_paused else None
        return None if self.is_paused else self.probe_due

    def is_activating(self) -> bool:
        """Whether the device was told to restart into the image; then only identifying it leads on."""
        job = self.under_way.job if self.under_way is not None else None
        return job is not None and job.state is JobState.ACTIVATING


def port_identity(device: Device) -> PortIdentity:
    """Return what tells one appearance of a port from the next; None: no port. Constant for a radio.

    The node may come back under the same number, so its ctime counts too (traffic changes only the other
    times), and that of the link in /dev/serial/by-id.
    """
    if not isinstance(device.link, UartSettings):
        return (0, 0, 0, 0)
    path = Path(device.link.uart)
    try:
        node, link = path.stat(), path.lstat()
    except OSError:
        return None
    return node.st_ino, node.st_rdev, node.st_ctime_ns, link.st_ctime_ns
