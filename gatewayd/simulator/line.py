"""One direction of a serial line: bytes leave at its rate, and arrive later, some lost or changed.

Pure: the caller passes the time. A sender that knows when it sends uses `put`. A sender whose bytes wait in a
queue of unknown length (a pty) asks for `room` first, and passes what the queue held to `pulled`. As long as
the queue holds all that was asked for, the line was busy without a pause, and time lost by waking up late is
made up for.
"""

import math
import random
from collections import deque
from dataclasses import dataclass

_SLICE_S = 0.002  # bytes arrive in slices of this length; timers here are no more exact
_UNPACED_ROOM = 65536
_MOST_LATE_S = 0.25  # the most to make up for after waking up late; beyond, the process was stopped


@dataclass(frozen=True, slots=True)
class LineProfile:
    """The properties of a line, the same in each direction. Fault rates are per byte."""

    rate_bytes_per_s: float = 0.0  # 0: unlimited
    latency_s: float = 0.0
    flip_rate: float = 0.0
    drop_rate: float = 0.0


class Line:
    """See the module's text. Bytes travel with the speed (`baud`) they were sent at."""

    def __init__(self, profile: LineProfile, rng: random.Random) -> None:
        self._profile = profile
        self._rng = rng
        self._rate = profile.rate_bytes_per_s
        self._slice = max(1, int(self._rate * _SLICE_S)) if self._rate else _UNPACED_ROOM
        self._free_at = -math.inf
        self._backlog = False
        self._travelling: deque[tuple[float, bytes, int]] = deque()  # arrival, bytes, baud
        self._flips = _Faults(profile.flip_rate, rng)
        self._drops = _Faults(profile.drop_rate, rng)

    def room(self, now: float) -> int:
        """Return how many bytes the line can take now."""
        if not self._rate:
            return _UNPACED_ROOM
        if now < self._free_at:
            return 0
        late_s = min(now - self._free_at, _MOST_LATE_S) if self._backlog else 0.0
        return self._slice + int(late_s * self._rate)

    def pulled(self, asked: int, data: bytes, now: float, baud: int) -> None:
        """Send what a queue held when `asked` bytes were asked for."""
        start = max(self._free_at, now - _MOST_LATE_S if self._backlog else now)
        self._backlog = bool(self._rate) and len(data) == asked
        self._send(data, start, baud)

    def put(self, data: bytes, now: float, baud: int) -> None:
        """Send now, behind what is still being sent."""
        for at in range(0, len(data), self._slice):
            self._send(data[at : at + self._slice], max(self._free_at, now), baud)

    def arrived(self, now: float) -> list[tuple[bytes, int]]:
        """Take out what has arrived: bytes and the speed they were sent at."""
        found = []
        while self._travelling and self._travelling[0][0] <= now:
            _, data, baud = self._travelling.popleft()
            found.append((data, baud))
        return found

    def next_arrival(self) -> float | None:
        """When `arrived` will have something."""
        return self._travelling[0][0] if self._travelling else None

    def free_at(self) -> float | None:
        """When there is `room` again; None when there may be some now."""
        return self._free_at if self._rate else None

    def _send(self, data: bytes, start: float, baud: int) -> None:
        if not data:
            return
        self._free_at = start + (len(data) / self._rate if self._rate else 0.0)
        self._travelling.append((self._free_at + self._profile.latency_s, self._spoil(data), baud))

    def _spoil(self, data: bytes) -> bytes:
        spoilt = bytearray(data)
        for at in self._flips.within(len(data)):
            spoilt[at] ^= 1 << self._rng.randrange(8)
        for at in reversed(self._drops.within(len(data))):
            del spoilt[at]
        return bytes(spoilt)


class _Faults:
    """The positions of faults of a given probability; draws once per fault, not once per byte."""

    def __init__(self, probability: float, rng: random.Random) -> None:
        self._probability = min(probability, 1.0)
        self._rng = rng
        self._next = self._gap()

    def within(self, size: int) -> list[int]:
        """Return the positions in the next `size` bytes, ascending."""
        found = []
        while self._next < size:
            found.append(int(self._next))
            self._next += 1 + self._gap()
        self._next -= size
        return found

    def _gap(self) -> float:
        if self._probability <= 0:
            return math.inf
        if self._probability >= 1:
            return 0
        return math.floor(math.log(1.0 - self._rng.random()) / math.log1p(-self._probability))
