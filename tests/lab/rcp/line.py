"""One direction of a line between gateway and device, as bad as a test wants it."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from gatewayd.simulator.line import Line, LineProfile

PAUSE_S = 3.0  # the longest rest of a line; more than any time-out's first round


@dataclass(frozen=True, slots=True)
class Faults:
    """How a line is bad, in each direction: probabilities per byte (the first two) and per frame."""

    flip: float = 0.0
    drop: float = 0.0
    lose: float = 0.0
    repeat: float = 0.0  # comes twice
    stutter: float = 0.0  # some bytes of it come twice
    swap: float = 0.0  # comes behind the next one
    pause: float = 0.0  # waits up to PAUSE_S before it goes
    one_byte: bool = False  # everything is delivered byte by byte


class Wire:
    """One direction. Carries whole frames in, bytes out.

    `buffer`: bytes that may wait in it (an adapter's); infinite for a pty, which says nothing of its queue.
    `timer_s`: what has arrived is handed over only at multiples of it, as an FTDI's latency timer has it.

    Attributes:
        free_at: when it takes another frame.
    """

    def __init__(
        self,
        rate: float | None,
        latency_s: float,
        faults: Faults,
        rng: random.Random,
        buffer: float = 0.0,
        timer_s: float = 0.0,
    ) -> None:
        self.free_at = self._idle_at = -math.inf
        self._buffer = buffer
        self._timer_s = timer_s
        self._rate = rate
        self._latency_s = latency_s
        self._faults = faults
        self._rng = rng
        self._lines: dict[int, Line] = {}  # by speed
        self._ended: list[Line] = []  # of another rate
        self._held = b""

    def put(self, wire: bytes, now: float, baud: int) -> None:
        """Send a frame."""
        line = self._line(baud)
        rng, faults = self._rng, self._faults
        start = max(now, self._idle_at)
        if rng.random() < faults.pause:
            start += rng.random() * PAUSE_S
        for frame in self._muddled(wire):
            line.put(frame, start, baud)
        # A lost frame has taken its time, too.
        rate = self._rate or baud / 10
        self._idle_at = max(line.free_at() or now, start + len(wire) / rate)
        self.free_at = self._idle_at - self._buffer / rate

    def set_rate(self, rate: float) -> None:
        """From now on it is as fast as this; what waits in it leaves as it would have."""
        self._rate = rate
        for line in self._lines.values():
            self._ended.append(line)
        self._lines = {}

    def arrived(self, now: float) -> list[tuple[bytes, int]]:
        """Take out pieces, and the speed each was sent at."""
        if now < self.next_arrival():
            return []
        found = [piece for line in self._all() for piece in line.arrived(now)]
        if not self._faults.one_byte:
            return found
        return [(piece[at : at + 1], baud) for piece, baud in found for at in range(len(piece))]

    def next_arrival(self) -> float:
        at = min((at for line in self._all() if (at := line.next_arrival()) is not None), default=math.inf)
        if self._timer_s and at < math.inf:
            return max(at, math.ceil(at / self._timer_s) * self._timer_s)
        return at

    def _all(self) -> Iterator[Line]:
        yield from self._ended
        yield from self._lines.values()

    def _line(self, baud: int) -> Line:
        if baud not in self._lines:
            profile = LineProfile(
                self._rate or baud / 10, self._latency_s, self._faults.flip, self._faults.drop
            )
            self._lines[baud] = Line(profile, random.Random(self._rng.random()))
        return self._lines[baud]

    def _muddled(self, wire: bytes) -> list[bytes]:
        rng, faults = self._rng, self._faults
        if rng.random() < faults.lose:
            return []
        if rng.random() < faults.stutter:
            at, size = rng.randrange(len(wire)), rng.randrange(1, 20)
            wire = wire[: at + size] + wire[at:]
        copies = [wire, wire] if rng.random() < faults.repeat else [wire]
        if not self._held and rng.random() < faults.swap:
            self._held = wire
            return copies[1:]
        held, self._held = self._held, b""
        return [*copies, held] if held else copies
