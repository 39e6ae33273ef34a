"""How fast bytes arrive at a device."""

from collections import deque
from dataclasses import dataclass

# Long enough to be steady at 300 baud, short enough to show a stall.
WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far the device is with the image, and how often this attempt had to take it up again."""

    received: int
    bytes_per_s: int
    resumes: int


class ProgressMeter:
    """Bytes per second over the last few seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """From the first start to the latest byte that arrived."""
        return self._points[-1][0] - self._began if self._began is not None else 0.0

    def start(self, now: float, offset: int) -> None:
        """Begin at `offset`: what a device has already got is not speed."""
        self._began = now if self._began is None else self._began
        self._points = deque([(now, offset)])

    def rate(self, now: float, received: int) -> int:
        """Note that the device has `received` bytes and return bytes per second."""
        self._points.append((now, received))
        while len(self._points) > 2 and now - self._points[1][0] >= WINDOW_S:  # noqa: PLR2004 - a line's two ends
            self._points.popleft()
        since, first = self._points[0]
        return round((received - first) / (now - since)) if now > since else 0
