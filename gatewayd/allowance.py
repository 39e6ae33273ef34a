"""How often something may be done, written or said, bounded over time. Pure: the clock is an argument."""

from collections.abc import Callable

HOUR_S = 3600.0
MINUTE_S = 60.0


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


class OnceAMinute:
    """Lets the same thing be said once a minute, with how often it happened unsaid in between."""

    # More topics than that do not come from a configuration.
    _MOST = 1000

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[object, tuple[float, int]] = {}

    def left_out(self, subject: object) -> int | None:
        """Return how often it was not said since it was said last; None: do not say it now."""
        now = self._clock()
        at, left_out = self._said.get(subject, (None, 0))
        if at is not None and now - at < MINUTE_S:
            self._said[subject] = at, left_out + 1
            return None
        if len(self._said) >= self._MOST:
            self._said.clear()
        self._said[subject] = now, 0
        return left_out
