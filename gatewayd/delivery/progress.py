"""How fast bytes arrive at a device, and how often that is news."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# Long enough to be steady at 300 baud, short enough to show a stall.
WINDOW_S = 5.0
# A person watching sees movement, and two hundred simultaneous transfers stay below two hundred messages a
# second.
PROGRESS_INTERVAL_S = 1.0


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


class ProgressThrottle:
    """Holds devices with nothing but progress to tell, and lets them out together once a second."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._held: dict[str, None] = {}
        self._some = asyncio.Event()

    def hold(self, name: str) -> None:
        """Hold a device until the next second."""
        self._held[name] = None
        self._some.set()

    def forget(self, name: str) -> None:
        """Its news went out some other way."""
        self._held.pop(name, None)

    async def release(self) -> dict[str, None]:
        """Wait until some were held for a second; return them, in the order in which they came."""
        await self._some.wait()
        await self._sleep(PROGRESS_INTERVAL_S)
        self._some.clear()
        released, self._held = self._held, {}
        return released
