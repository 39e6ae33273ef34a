"""One direction of a radio between gateway and device: packets in connection events, in order and whole.

As BlueZ does it, a packet is taken at once, however many wait, and also when nobody will ever get it.
"""

import math
import random
from collections import deque
from dataclasses import dataclass

from gatewayd.protocol.rcp.framing import BrokenFrame, StreamDeframer
from gatewayd.protocol.rcp.packets import Assembler, ShortData

_AIR_S = 0.0001  # between two packets of an event


@dataclass(frozen=True, slots=True)
class Airtime:
    """How often a radio carries packets, and how many at once; `lose` is a probability per packet."""

    interval_s: float = 0.0075
    packets: int = 6
    lose: float = 0.0


class Timetable:
    """When packets have their turn: in events at a fixed interval, a limited number in each."""

    def __init__(self, airtime: Airtime) -> None:
        self._airtime = airtime
        self._event = self._used = 0

    def book(self, now: float) -> float:
        """Return when a packet that is given now arrives; none before it, none at the same time."""
        airtime = self._airtime
        soonest = math.floor(now / airtime.interval_s + 1e-6) + 1
        if soonest > self._event:
            self._event, self._used = soonest, 0
        elif self._used >= airtime.packets:
            self._event, self._used = self._event + 1, 0
        self._used += 1
        return self._event * airtime.interval_s + self._used * _AIR_S


class Radio:
    """One direction; used as rcp_line.Wire is."""

    def __init__(self, airtime: Airtime, rng: random.Random) -> None:
        self.free_at = -math.inf
        self._rng = rng
        self.set_airtime(airtime)
        self._travelling: deque[tuple[float, bytes, int]] = deque()

    def set_airtime(self, airtime: Airtime) -> None:
        """From now on the radio is like this."""
        self._airtime, self._timetable = airtime, Timetable(airtime)

    def put(self, packet: bytes, now: float, baud: int) -> None:
        """Send a packet in the next event that has room."""
        arrival = self._timetable.book(now)
        if self._rng.random() >= self._airtime.lose:
            self._travelling.append((arrival, packet, baud))

    def arrived(self, now: float) -> list[tuple[bytes, int]]:
        """Take out what has arrived."""
        found = []
        while self._travelling and self._travelling[0][0] <= now:
            _, packet, baud = self._travelling.popleft()
            found.append((packet, baud))
        return found

    def next_arrival(self) -> float:
        return self._travelling[0][0] if self._travelling else math.inf


class Reader:
    """Whole frames out of what travels, by stream or in packets of at most `packet` bytes."""

    def __init__(self, packet: int | None, max_frame: int = 65535) -> None:
        self._packet = packet
        self._deframer = StreamDeframer(max_frame)
        self._assembler = Assembler(max_frame)

    def contents(self, wire: bytes, near: int = 0) -> list[bytes | BrokenFrame]:
        """Return what is completed; short DATA as if it had come whole, its offset being near to `near`."""
        if self._packet is None:
            return self._deframer.feed(wire)
        assert 0 < len(wire) <= self._packet, f"{len(wire)} bytes in a packet of {self._packet}"
        found = self._assembler.feed(wire)
        if isinstance(found, ShortData):
            offset = found.offset(near).to_bytes(4, "little")
            found = bytes((0x40, found.session)) + offset + found.payload
        return [] if found is None else [found]
