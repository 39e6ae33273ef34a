"""What a device prints between frames, for the log: a chatty one must not fill the disk."""

from typing import Any

# A boot log passes whole; endless output is cut down to a line a second.
BURST = 200
LINES_PER_S = 1.0


class ConsoleLog:
    """The console of one device during one attempt."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._allowed = float(BURST)
        self._at: float | None = None
        self._left_out = 0

    def add(self, text: str, now: float) -> None:
        """Log a line, or count it; the next one that is logged says how many were left out."""
        since = 0.0 if self._at is None else now - self._at
        self._at = now
        self._allowed = min(BURST, self._allowed + since * LINES_PER_S)
        if self._allowed < 1:
            self._left_out += 1
            return
        self._allowed -= 1
        more = {"left_out": self._left_out} if self._left_out else {}
        self._left_out = 0
        self._log.info("console", text=text, **more)
