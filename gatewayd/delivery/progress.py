"""How fast bytes arrive at a device, and how often that is reported."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# Long enough to be steady at 300 baud, short enough to show a stall.
WINDOW_S = 5.0
# Short enough to show movement; two hundred simultaneous transfers cause at most two hundred messages a
# second.
PROGRESS_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How many bytes the device has, at what rate, and how often this attempt has resumed."""

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
        """Begin at `offset`: bytes that the device already has do not count."""
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
    """Holds back devices with only progress to report, and releases them together once a second."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._held: dict[str, None] = {}
        self._some = asyncio.Event()

    def hold(self, name: str) -> None:
        """Hold a device until the next second."""
        self._held[name] = None
        self._some.set()

    def forget(self, name: str) -> None:
        """Drop a device whose progress was published in another message."""
        self._held.pop(name, None)

    async def release(self) -> dict[str, None]:
        """Wait until some were held for a second; return them in the order of their arrival."""
        await self._some.wait()
        await self._sleep(PROGRESS_INTERVAL_S)
        self._some.clear()
        released, self._held = self._held, {}
        return released
