"""The flow of DATA in one session, from ACCEPT to the last byte (docs/protocol.md, section 5). Pure.

Bytes between `received` (what the device has, in order) and `sent` (where the gateway is) are in flight.
Three bounds are the device's: its credit, its window, its ring (in wire bytes). The fourth is the line: what
is in flight behind a spoilt frame is sent again, so no more is in flight than fills the line, as measured
from ACKs (protocol/pace.py), and two frames of the current chunk. With one the line is idle while the next is
made; a third only waits. How much the kernel or an adapter would take does not matter: an adapter that keeps
4 KiB is hardly ever given them. Where nothing gets lost they are four, so that answers may wait for one
another (`rest_until`).

A chunk is chosen from the losses: framing costs overhead / chunk of each byte, a loss what fills the line and
about two chunks. The sum is least near sqrt(overhead / losses a byte), between CHUNK_FLOOR and what device
and configuration allow, in whole write units. Losses are what made us go back; a lost ACK is none.

The awkward cases of measuring:
- *Idle start, resume:* nothing is known of the line but its speed. Two frames and an adapter's burst go out;
  the first frame was alone, and its ACK tells the turnaround.
- *The rate changes in mid-transfer:* the highest rate of four spans of 2 KiB is forgotten after 8 KiB. Until
  then a slower line builds a queue, up to the window; a faster one is seen at once, since two frames more are
  in flight than fill it.
- *The device's bounds hold us back:* with less in flight than fills the line a low rate says nothing of it.
- *The device falls silent while it erases, an FTDI hands over ACKs every 16 ms:* ACKs come in bursts, and as
  much more is in flight.
- *BUSY:* an answer to what was sent before its end is no turnaround.
- *Noise:* a span with a loss in it is dropped; when no span is ever whole, the rate stays as it was.

Go-back-N: a NAK, or a probe that shows a loss, sets `sent` back to `received`. What was in flight then may
still fill the device's ring; it counts as *stale* until the device advances.

The awkward case is the probe. On an ordered line its ACK tells how far the device got with all that was sent
before it; but ACKs of DATA look the same. So: only an ACK without an advance answers a probe, and it means
loss only if `received` is below what had been sent when the probe was made: the first of those that are not
answered yet, since a device that was silent for long answers several, one after the other.

On datagrams nothing tells what the link carries: it is taken for slow until ACKs have shown better, and for
dead when no answer has come to 16 probes. A chunk is what a packet holds, which may be told late. One ACK
comes for six packets, so three times six may wait, and the line is not left to run dry for a measurement,
which no ACK would end.

A *round* is a time-out or a NAK without an advance in between; 16 of them are a stall.
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from gatewayd.errors import DeviceError
from gatewayd.protocol.pace import Losses, Pace, Path, Rest
from gatewayd.protocol.rcp.frames import Ack, Data, Nak
from gatewayd.protocol.rcp.limits import Limits, whole_units
from gatewayd.protocol.request import ROUNDS, TURNAROUNDS

# After a stall: what gets through in small pieces shows what does not.
CAUTIOUS_CHUNK, _CAUTIOUS_BYTES = 32, 1024
_FLOOR_S = 0.05  # measured turnaround is 16 ms on an FTDI at its default
_CEILING_S = 0.25  # where time-outs without an advance stop doubling: 16 of them last 3 s
_MAX_TURNAROUND_S = 1.0
_FALLS = 8  # answers below an earlier one: more than any line keeps back
_SPAN_BYTES = 2048  # over which the rate is measured; few runs without a loss are longer on a bad line
_SLOWEST = 32  # times slower than the line: no measurement is believed below
# On datagrams
_RADIO_FLOOR_S = 0.2  # a radio that scans or connects meanwhile rests as long
_RADIO_CEILING_S = 0.5  # 16 time-outs last 8 s
_RADIO_SLOWEST = 5  # times slower than assumed: one packet in half a second
_RADIO_FASTEST = 250_000.0  # bytes a second, what 2M PHY has on the air


@dataclass(frozen=True, slots=True)
class _Timing:
    """Rates in bytes a second: assumed, and the bounds of what is measured, over `span` bytes."""

    rate: float
    slowest: float
    fastest: float
    span: int
    floor_s: float
    ceiling_s: float

    @classmethod
    def of(cls, rate: float, limits: Limits) -> "_Timing":
        if limits.overhead is None:
            return cls(rate, rate / _SLOWEST, rate, _SPAN_BYTES, limits.floor_s or _FLOOR_S, _CEILING_S)
        span = limits.frames * limits.wire(limits.chunk)
        floor_s = limits.floor_s or _RADIO_FLOOR_S
        return cls(rate, rate / _RADIO_SLOWEST, _RADIO_FASTEST, span, floor_s, _RADIO_CEILING_S)

    def path(self, turnaround_s: float, now: float) -> Path:
        """Return a measurement within these bounds."""
        return Path(
            rate=self.rate,
            slowest=self.slowest,
            fastest=self.fastest,
            span=self.span,
            turnaround_s=turnaround_s,
            now=now,
        )


class _InFlight(NamedTuple):
    offset: int
    end: int
    wire: int
    sent_at: float
    was_alone: bool


class DataFlow:
    """Sends `image` from `offset`. `rate` is the line's, or assumed of a radio, in bytes a second."""

    def __init__(  # noqa: PLR0913 - all are facts of one ACCEPT
        self,
        image: bytes | memoryview,
        session: int,
        limits: Limits,
        *,
        offset: int,
        credit: int,
        rate: float,
        turnaround_s: float,
        now: float,
        is_cautious: bool = False,
    ) -> None:
        self.received = self.sent = self._highest = offset
        self.durable = 0
        self.credit = credit
        self.moved_at = now
        self.turnaround_s = turnaround_s
        self.rounds = 0
        self._image = memoryview(image)
        self._session = session
        self._limits = limits
        self._flight: deque[_InFlight] = deque()
        self._flight_wire = self._stale_wire = 0
        self._quiet_since = self._busy_until = now
        self._probe_is_due = self._may_be_short = False
        self._probed: deque[int] = deque(maxlen=ROUNDS)  # what had been sent when each probe was made
        self._falls = 0
        self._timing = _Timing.of(rate, limits)
        self._path = self._timing.path(turnaround_s, now)
        self._losses = Losses()
        self._lost: deque[tuple[int, int]] = deque(maxlen=ROUNDS)
        self._cautious_until = offset + _CAUTIOUS_BYTES if is_cautious and limits.overhead is None else 0
        self._choose_chunk()
        self._pace = Pace(self._timing.rate, now, offset)
        self._rest = Rest(self._timing.fastest, now, offset)
        self._check(offset, 0, credit)

    def resize(self, packet: int) -> None:
        """Fill datagrams of that many bytes from now on; what is in flight stays as it is."""
        self._limits = self._limits.of_packets(packet)
        self._choose_chunk()

    def lost_frames(self) -> list[Data]:
        """Return the frames that the device said were missing last, one for each time."""
        return [Data(self._session, at, bytes(self._image[at:end])) for at, end in self._lost]

    @property
    def is_complete(self) -> bool:
        """Whether the device has all of it."""
        return self.received == len(self._image)

    @property
    def crawled(self) -> int | None:
        """Bytes in PACE_S, when they were too few."""
        return self._pace.crawled

    @property
    def is_stalled(self) -> bool:
        """Whether nothing has advanced for too many rounds, or next to nothing for a minute."""
        return self.rounds > ROUNDS or self.crawled is not None

    def next_frame(self, now: float) -> Data | None:
        """Return what may be sent now: a probe that is due, or the next chunk."""
        if self._probe_is_due:
            self._probe_is_due = False
            self._probed.append(self.sent)
            self._quiet_since = now
            return Data(self._session, self.sent)
        size = self._sendable()
        if not size:
            return None
        offset, self.sent = self.sent, self.sent + size
        self._highest = max(self._highest, self.sent)
        self._quiet_since = now
        self._may_be_short = False
        was_alone = not self._flight and not self._stale_wire
        if was_alone:
            self._path.send_alone(now)
            self._rest.run_dry(now, self.received)
        wire = self._wire(size)
        self._flight.append(_InFlight(offset, self.sent, wire, now, was_alone))
        self._flight_wire += wire
        return Data(self._session, offset, bytes(self._image[offset : self.sent]))

    def take(self, answer: Ack | Nak, now: float) -> bool:
        """Take an answer; return whether the device has advanced.

        Raises DeviceError `bad_offset`, `backwards`.
        """
        received = answer.received
        self._check(received, answer.durable, answer.credit)
        if received < self.received:
            self._count_fall(received)
            return False  # an old one
        self.credit = max(self.credit, answer.credit)
        self.durable = max(self.durable, answer.durable)
        has_advanced = received > self.received
        if has_advanced:
            self._advance(received, now)
        if isinstance(answer, Nak):
            self.rounds += not has_advanced
            self._go_back(stale=self._flight_wire)
        elif self._probed and not has_advanced and received < self._probed.popleft():
            self._go_back(stale=0)
        return has_advanced

    def hold(self, until: float) -> None:
        """The device lives and is busy: do not expect anything before."""
        self._busy_until = max(self._busy_until, until)
        self._pace.hold(self._busy_until, self.received)
        self.rounds = 0

    def deadline(self) -> float:
        """When `handle_timeout` is due."""
        floor = max(TURNAROUNDS * self.turnaround_s, self._timing.floor_s)
        pause = min(floor * (1 << self.rounds), max(floor, self._timing.ceiling_s))
        wire_s = (self._flight_wire + self._stale_wire) / self._path.slow_rate
        if self.rounds and self._limits.overhead is not None:
            wire_s = 0.0  # it has had its time, and a radio may be dead
        return max(self._quiet_since + wire_s + pause, self._busy_until)

    def rest_until(self) -> float:
        """See TransferSession."""
        is_even = self._flight and not self._flight[0].was_alone and not self._probed and not self.rounds
        is_at_end = self.sent == len(self._image)
        if not self._is_calm or not is_even or is_at_end or self._busy_until > self.moved_at:
            return self._rest.forgo()
        path, surplus = self._path, self._flight_wire - self._path.on_the_way
        return self._rest.until(self.moved_at, surplus, path.burst, self._chunk_wire)

    def handle_timeout(self, now: float) -> None:
        """Ask with a probe, or with less than a chunk when the credit has room for no more."""
        if now < self.deadline():
            return
        self._quiet_since = now
        if self._sendable():
            return
        self.rounds += 1
        self._path.restart()
        self._may_be_short = not self._flight
        self._probe_is_due = not self._sendable()

    def _check(self, received: int, durable: int, credit: int) -> None:
        size = len(self._image)
        if received > self._highest or credit < received or max(durable, credit) > size:
            raise DeviceError(
                f"the device says received {received}, durable {durable}, credit {credit} of an image of"
                f" {size} bytes, of which {self._highest} were sent",
                code="bad_offset",
                hint="its receiver is broken: report its firmware to its maker",
            )

    def _count_fall(self, received: int) -> None:
        self._falls += 1
        if self._falls > _FALLS:
            raise DeviceError(
                f"the device said that it has {self.received} bytes, then again and again that it has fewer,"
                f" finally {received}",
                code="backwards",
                hint="its receiver is broken: report its firmware to its maker",
            )

    def _sendable(self) -> int:
        """Return how many bytes may be sent now."""
        size = min(self.chunk, len(self._image) - self.sent)
        room = self.credit - self.sent
        if size > room:
            self._path.starve(self._flight_wire, self._wire(size))
            return whole_units(max(room, 0), self._limits.unit) if self._may_be_short else 0
        if not self._flight:
            return size
        limits, wire = self._limits, self._wire(size)
        fits = self.sent + size - self.received <= limits.window and len(self._flight) < limits.frames
        if not fits or self._flight_wire + self._stale_wire + wire > limits.ring:
            self._path.starve(self._flight_wire, wire)
            return 0
        if self._limits.overhead is None and self._path.is_stale(self._quiet_since):
            return 0
        enough = self._path.fill + limits.waiting * self._chunk_wire
        if self._is_calm:
            enough += 2 * self._chunk_wire
        return size if self._flight_wire + wire <= enough else 0

    @property
    def _is_calm(self) -> bool:
        """Whether answers may wait: the line is known, and hardly ever spoils anything."""
        return (
            self._limits.overhead is None
            and self._losses.are_rare
            and self._rest.may_begin(self.received, self.moved_at, self._chunk_wire)
        )

    def _advance(self, received: int, now: float) -> None:
        self.received = received
        self._pace.advance(now, received, is_complete=self.is_complete)
        self.sent = max(self.sent, received)
        self.moved_at = self._quiet_since = now
        self.rounds = self._stale_wire = self._falls = 0
        landed = 0
        while self._flight and self._flight[0].end <= received:
            landed += 1
            frame = self._flight.popleft()
            self._landed(frame, now, is_jump=landed > 1 or self._rest.is_under_way)
            self._rest.answered(frame.wire, now)
        if self.chunk < self._limits.chunk:
            self._choose_chunk()  # also when the cautious beginning is over

    def _landed(self, frame: _InFlight, now: float, *, is_jump: bool) -> None:
        """Learn from a frame that has arrived."""
        self._flight_wire -= frame.wire
        self._losses.carry(frame.wire)
        self._path.arrive(frame.wire, now, is_jump=is_jump)
        if frame.was_alone and self._busy_until <= frame.sent_at:
            sample = min(max(0.0, now - frame.sent_at - frame.wire / self._timing.fastest), _MAX_TURNAROUND_S)
            self._path.turn_around(sample)
            self.turnaround_s += (sample - self.turnaround_s) / 4

    def _choose_chunk(self) -> None:
        self.chunk = self._limits.best_chunk(self._losses.rate)
        if self.received < self._cautious_until:
            self.chunk = min(self.chunk, whole_units(CAUTIOUS_CHUNK, self._limits.unit))
        self._chunk_wire = self._limits.wire(self.chunk)

    def _wire(self, size: int) -> int:
        """Return how many wire bytes a chunk takes; most are of one size."""
        return self._chunk_wire if size == self.chunk else self._limits.wire(size)

    def _go_back(self, *, stale: int) -> None:
        if self.sent <= self.received:
            return
        self.sent = self.received
        if self._flight:
            if self._flight[0].offset == self.received:
                self._lost.append((self.received, self._flight[0].end))
            self._losses.lose(self._flight[0].wire)
        self._choose_chunk()
        self._flight.clear()
        self._flight_wire, self._stale_wire = 0, stale
        self._probed.clear()
        self._path.restart()
