"""How much may be written for a device that brings nothing new.

What must not be lost is never limited: releases, the end of a job, and each state from which a device may
act. All else is also in memory, and waits there for the next write that must be. A transaction is 12 to 28
KiB.
"""

from collections.abc import Callable

from gatewayd.allowance import Allowance

# Transactions an hour, and as many more at once: 200 KiB for one device, half a MiB for all.
A_DEVICE_PER_HOUR = 6
ALL_PER_HOUR = 20


class WriteLimits:
    """Limits of the writes that can wait, for each device and for all."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self._all = Allowance(ALL_PER_HOUR, ALL_PER_HOUR, clock)
        self._of: dict[str, Allowance] = {}

    def take(self, device: str) -> bool:
        """Count a write that could wait; False: it must."""
        own = self._of.setdefault(device, Allowance(A_DEVICE_PER_HOUR, A_DEVICE_PER_HOUR, self.now))
        return own.has() and self._all.take() and own.take()
