"""How much may be written for a device that brings nothing new.

What must not be lost is never limited: releases, the end of a job, and each state from which a device may
act. All else is also in memory, where it waits for the next write that must be. A transaction is 8 to 24 KiB.
"""

from collections.abc import Callable

from gatewayd.allowance import Allowance

# Transactions an hour: about 200 KiB for one device, and less than a MiB for all.
A_DEVICE_PER_HOUR = 12
ALL_PER_HOUR = 48


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
