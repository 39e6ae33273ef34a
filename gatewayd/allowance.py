"""How often something may be done, written or said, over time. Pure: the clock is an argument."""

from collections.abc import Callable

HOUR_S = 3600.0


class Allowance:
    """A stock of units: full at first, refilled by `per_hour`, never more than `burst`."""

    def __init__(self, burst: float, per_hour: float, clock: Callable[[], float]) -> None:
        self._burst = self._left = burst
        self._per_s = per_hour / HOUR_S
        self._clock = clock
        self._at = clock()

    def has(self, units: float = 1.0) -> bool:
        """Whether so much is left."""
        now = self._clock()
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        return self._left >= units

    def take(self, units: float = 1.0) -> bool:
        """Use up so much, if it is there; False: it is not, and nothing was taken."""
        if not self.has(units):
            return False
        self._left -= units
        return True

    def ready_in_s(self, units: float = 1.0) -> float:
        """Return in how many seconds so much will be there."""
        return 0.0 if self.has(units) else (units - self._left) / self._per_s
