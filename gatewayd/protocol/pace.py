"""What a sender learns from acknowledgements, in any protocol: how fast, how far away, how noisy. Pure.

`Path` is congestion control for a line that nobody else uses, after BBR. What fills the line is

    rate x turnaround + burst

- The rate is the highest that was measured lately: all but the line itself only makes a measurement lower.
- The turnaround is what passes, beyond a frame's own time on the line, until it is acknowledged: both ways,
  and the device. Only a frame that was alone shows it; behind others it would be their time, and the more we
  sent the longer it would seem. So a sender lets the line run dry when the latest measurement is old, which
  costs one turnaround in REMEASURE_S. The lowest of the last few counts.
- The burst is what is acknowledged sooner than the rate would have it, after a pause: an adapter hands over
  what came every 16 ms, a device falls silent while it erases, a gateway is busy. Without it the line would
  be idle until the next burst, and no larger one could ever be seen: so that of a common adapter is assumed
  at first, and again with each new measurement, and then fades to the largest seen. A queue that we built
  ourselves is no burst, and cannot make it grow.

`Rest` tells how long answers may wait. What fills the line is on its way; the rest of what is in flight has
not left yet, and until it has, no answer makes the line any busier. So a sender may take several answers at
once, which spares it most of what it takes to wake up.

`Losses` tells how often a byte is spoilt, `best_chunk` what to make of it. `Pace` watches that a transfer
gets somewhere at all: a device that takes a byte a second answers, and never ends.
"""

import math
from collections import deque

_SPANS = 4  # their highest rate counts: an erase, a busy gateway falls into some and not into all
_TURNAROUNDS = 3  # their lowest counts
REMEASURE_S = 20.0
_BURST_S = 0.016  # assumed until seen: the latency timer of an FTDI adapter as it comes
_BURST_FADES = 1 / 32  # of it, with each acknowledgement
_EVEN_SPANS = 4  # after which the count starts again: a rate that is a little low would add up
_LOSSES = 8  # whose distance tells how noisy the line is
_RECENT_LOSSES = 2  # of these, when the line has become better since
_BYTES_BEFORE = 32768  # without a loss, as a sender assumes before it has seen any
_RARE_BYTES = 512 * 1024  # without a loss; two frames more to send again would cost 0.4 % then
_COST_OF_LOSS = 2.0  # chunks: the one that was spoilt, and of the two behind it those that are in the queue
_FIRST_REST_BYTES = 8192  # until the line is known
_MOST_OF_RATE = 1.2  # a line is no faster than its speed; what was in flight at first is acknowledged at once
_LONGEST_FRAME_S = 0.1  # longer ones wake nobody often
_SPARE_S = 0.004  # to wake up, and send, before the line is idle
_SETTLE_S = 0.0025  # that an answer may come later than it should
_LEAST_ANSWERS = 2
_LEAST_FRAMES = 1.5  # of a rest: one that is shorter shows that answers come later than thought
_LATENESS_FADES = 1 / 32  # with each answer
_SPARE_PARTS = 3  # of a frame: one in so many is spare where that is longer
# In ten minutes at least this much, or an erase block, has to become durable, whatever the device asks for.
LEAST_DURABLE_BYTES = 4096
LEAST_DURABLE_S = 600.0
PACE_S = 60.0  # over which a transfer has to get somewhere, waits that the device asked for not counted
_LEAST_SHARE = 100  # of the line's rate, the least that counts as progress: at 1 byte/s it would take weeks


class Pace:
    """Watches what arrives. `rate` is what the link carries, in bytes a second.

    Attributes:
        crawled: bytes in `PACE_S`, once they were too few.
    """

    def __init__(self, rate: float, now: float, received: int) -> None:
        self.crawled: int | None = None
        self._rate = rate
        self._since, self._from = now, received

    def hold(self, until: float, received: int) -> None:
        """The device lives and is busy: count from then on."""
        self._since, self._from = until, received

    def advance(self, now: float, received: int, *, is_complete: bool) -> None:
        """The device has `received` bytes."""
        if now - self._since < PACE_S:
            return
        size = received - self._from
        if size < self._rate * (now - self._since) / _LEAST_SHARE and not is_complete:
            self.crawled = size
        self._since, self._from = now, received


class Path:
    """What the line carries and how far away the other end is; see the module's text.

    Args:
        rate: assumed, in bytes a second; `slowest` and `fastest` bound what is measured.
        span: over how many bytes it is measured.
        turnaround_s: what is known of it.

    Attributes:
        rate: the line's, in wire bytes a second.
        slow_rate: the lowest that was measured lately: what time-outs have to reckon with.
        burst: bytes that are acknowledged sooner than the rate would have it.
    """

    def __init__(
        self, *, rate: float, slowest: float, fastest: float, span: int, turnaround_s: float, now: float
    ) -> None:
        self.rate = self.slow_rate = rate
        self._slowest, self._fastest, self._span = slowest, fastest, span
        self._fair: deque[float] = deque(maxlen=_SPANS)
        self._all: deque[float] = deque(maxlen=_SPANS)
        self._turnarounds: deque[float] = deque([turnaround_s], maxlen=1)
        self._measured_at = now
        self.burst = _BURST_S * rate
        self.restart()

    @property
    def on_the_way(self) -> float:
        """Wire bytes in flight that have left, and whose answers have not come."""
        return self.rate * min(self._turnarounds)

    @property
    def fill(self) -> float:
        """Wire bytes in flight that fill the line without a queue."""
        return self.on_the_way + self.burst

    def is_stale(self, now: float) -> bool:
        """Whether the turnaround was measured so long ago that a frame should go out alone."""
        return now - self._measured_at > REMEASURE_S

    def send_alone(self, now: float) -> None:
        """A frame goes out while nothing is in flight."""
        if self.is_stale(now):
            self.burst = max(self.burst, _BURST_S * self.rate)
        self._measured_at = now
        self.restart()

    def turn_around(self, seconds: float) -> None:
        """A frame that was alone has been acknowledged so long after it had left."""
        if self._turnarounds.maxlen == 1:  # what was known before was not of a frame
            self._turnarounds = deque(maxlen=_TURNAROUNDS)
        self._turnarounds.append(seconds)

    def starve(self, flight: int, wire: int) -> None:
        """Something else keeps a frame from being sent: with too few bytes in flight the line is idle."""
        self._is_starved |= flight < self.rate * min(self._turnarounds) + wire

    def restart(self) -> None:
        """Forget the measurement under way: the line has not carried what is acknowledged next."""
        self._span_began: float | None = None
        self._is_starved = False

    def arrive(self, wire: int, now: float, *, is_jump: bool = False) -> None:
        """Note that `wire` more bytes were acknowledged; in a jump if an answer was lost, or waited."""
        if self._span_began is None:
            self._span_began, self._span_bytes, self._is_starved = now, 0, False
            self._even_since, self._even_bytes = now, 0
            return
        self._span_bytes += wire
        self._see_burst(wire, now, is_jump=is_jump)
        if self._span_bytes >= self._span and now > self._span_began:
            self._measure(self._span_bytes / (now - self._span_began))
            self._span_began, self._span_bytes, self._is_starved = now, 0, False

    def _see_burst(self, wire: int, now: float, *, is_jump: bool) -> None:
        """Compare what came since a moment when it was even with what the rate makes of that time."""
        self._even_bytes += wire
        early = self._even_bytes - self.rate * (now - self._even_since)
        if early <= 0 or is_jump or self._even_bytes > _EVEN_SPANS * self._span:
            self._even_since, self._even_bytes = now, 0
            early = 0.0
        self.burst = max(early, self.burst * (1 - _BURST_FADES))

    def _measure(self, rate: float) -> None:
        rate = min(self._fastest, max(rate, self._slowest))
        self._all.append(rate)
        self.slow_rate = min(self._all)
        if not self._is_starved or rate > self.rate:
            self._fair.append(rate)
            self.rate = max(self._fair)


class Rest:
    """How long answers may wait. `rate`: what the link carries, in bytes a second.

    A rest ends when some answers have just come, so that it is known how far the line is: they come one
    frame's time after the other while the line is busy. A rest that would bring one answer is none: to
    listen for it costs the same, and tells exactly when it came.

    The awkward cases: A busy gateway wakes up late, so as much time is spare as it was late lately. A link
    may be faster than its speed says, as a USB device's is, and run dry in a rest: so nobody rests before the
    line has kept to its rate for a while, nor for a while, twice as long each time, after it ran dry.
    """

    def __init__(self, rate: float, now: float, received: int) -> None:
        self._rate = rate
        self._began, self._offset = now, received
        self._from = received + _FIRST_REST_BYTES
        self._penalty = _FIRST_REST_BYTES
        self._answer_at = now  # when the latest answer came, as far as is known
        self._until, self._expected = -math.inf, 0
        self._looked_at, self._got = now, 0
        self._late_s = 0.0

    def may_begin(self, received: int, now: float, wire: int) -> bool:
        """Whether to rest at all, with frames of that many bytes on the line."""
        is_as_told = received - self._offset <= _MOST_OF_RATE * self._rate * (now - self._began)
        return received >= self._from and is_as_told and wire <= self._rate * _LONGEST_FRAME_S

    @property
    def is_under_way(self) -> bool:
        """Whether what comes now may have waited."""
        return self._until > -math.inf

    def answered(self, wire: int, now: float) -> None:
        """Note that a frame of that many bytes was acknowledged."""
        self._late_s *= 1 - _LATENESS_FADES
        if not self.is_under_way:
            self._answer_at = now
            return
        self._answer_at = min(now, self._answer_at + wire / self._rate)
        self._got = self._got + 1 if now == self._looked_at else 1
        self._looked_at = now
        if self._got == self._expected:
            self._late_s = max(now - self._until, self._late_s)

    def forgo(self) -> float:
        """There is no reason to rest: return the past."""
        self._until = -math.inf
        return self._until

    def until(self, now: float, surplus: float, burst: float, wire: int) -> float:
        """Return the end of a rest in which two answers or more come; the past if there is none.

        Args:
            now: when the latest answer was taken.
            surplus: wire bytes in flight that had not left when it came.
            burst: how many more may have left, as answers come unevenly.
            wire: a frame's.
        """
        frame_s = wire / self._rate
        spare_s = max(_SPARE_S, frame_s / _SPARE_PARTS, 2 * self._late_s, burst / self._rate)
        self._expected = int((surplus / self._rate - spare_s - _SETTLE_S) / frame_s)
        until = self._answer_at + self._expected * frame_s + _SETTLE_S
        if self._expected < _LEAST_ANSWERS or until - now < _LEAST_FRAMES * frame_s:
            return self.forgo()
        self._until = until
        return until

    def run_dry(self, now: float, received: int) -> None:
        """Nothing is in flight any more: if a rest has just ended in time, it was too long."""
        if self._until <= now < self._until + _SPARE_S:
            self._from, self._penalty = received + self._penalty, 2 * self._penalty


class Losses:
    """How often a byte is spoilt, by the distance of the latest losses."""

    def __init__(self) -> None:
        self._carried = self._rare_from = 0
        self._lost_at: deque[int] = deque([-_BYTES_BEFORE], maxlen=_LOSSES + 1)

    def carry(self, wire: int) -> None:
        """Note that the line carried `wire` bytes, spoilt or not."""
        self._carried += wire

    def lose(self, wire: int) -> None:
        """A frame of this size has been lost."""
        self._carried += wire
        self._lost_at.append(self._carried)
        self._rare_from = self._carried + _RARE_BYTES

    @property
    def are_rare(self) -> bool:
        """Whether there was none lately."""
        return self._carried >= self._rare_from

    @property
    def rate(self) -> float:
        """Losses a wire byte."""
        return min(self._since(_LOSSES), self._since(_RECENT_LOSSES))

    def _since(self, count: int) -> float:
        count = min(count, len(self._lost_at) - 1)
        return count / (self._carried - self._lost_at[-1 - count]) if count else 0.0


def best_chunk(overhead: int, loss_rate: float) -> float:
    """Return the payload of a frame with which framing and losses together cost least.

    Framing costs overhead / chunk of each byte, a spoilt byte _COST_OF_LOSS chunks and what fills the line;
    the latter does not depend on the chunk. The sum is least where the first two are the same.
    """
    return math.sqrt(overhead / (_COST_OF_LOSS * loss_rate)) if loss_rate else math.inf


class DurableFloor:
    """The least that must become durable in a while, however the device spends its time.

    A device that takes a byte, says BUSY and takes another byte advances, is never silent and would need two
    years for 1 MiB. What it asks for between two bytes therefore counts here.

    Args:
        least_bytes: what has to become durable in each period; less at the image's end.
        period_s: how long that may take.
        size: of the image.
    """

    def __init__(self, least_bytes: int, period_s: float, size: int) -> None:
        self.period_s = period_s
        self._least_bytes = least_bytes
        self._size = size
        self._since: float | None = None
        self._durable = 0

    def begin(self, durable: int, now: float) -> None:
        """The device wants bytes from `durable` on; counts from the first time on."""
        if self._since is None:
            self._since, self._durable = now, durable

    def note(self, durable: int, now: float) -> None:
        """Note how many bytes are durable now."""
        if durable - self._durable >= min(self._least_bytes, self._size - self._durable):
            self._since, self._durable = now, durable

    def is_missed(self, now: float) -> bool:
        """Whether the last period brought less."""
        return self._since is not None and now - self._since >= self.period_s
