"""Log what a device prints between frames, limited so that it cannot fill the disk.

The limit belongs to the device, not to an attempt: a board that prints and never answers is asked again for
years.
"""

from typing import Any

# A boot log passes complete; endless output is limited to 360 lines an hour, which are about 100 KiB.
BURST = 200
LINES_PER_S = 0.1


class ConsoleLimit:
    """How much of one device's console may be logged by now, and how much was left out."""

    def __init__(self) -> None:
        self._allowed = float(BURST)
        self._at: float | None = None
        self._left_out = 0

    def take(self, now: float) -> int | None:
        """Return how many lines were left out before this one; None: leave it out."""
        since = 0.0 if self._at is None else now - self._at
        self._at = now
        self._allowed = min(BURST, self._allowed + since * LINES_PER_S)
        if self._allowed < 1:
            self._left_out += 1
            return None
        self._allowed -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class ConsoleLimits:
    """The limits of all devices, by name."""

    def __init__(self) -> None:
        self._limits: dict[str, ConsoleLimit] = {}

    def of(self, device: str) -> ConsoleLimit:
        """Return a device's limit."""
        return self._limits.setdefault(device, ConsoleLimit())


class ConsoleLog:
    """The console of one device during one attempt."""

    def __init__(self, log: Any, limit: ConsoleLimit) -> None:
        self._log = log
        self._limit = limit

    def add(self, text: str, now: float) -> None:
        """Log a line, or leave it out; the next logged line has the count of those left out."""
        left_out = self._limit.take(now)
        if left_out is not None:
            more = {"left_out": left_out} if left_out else {}
            self._log.info("console", text=text, **more)
