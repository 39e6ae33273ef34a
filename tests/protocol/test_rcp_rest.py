"""How long answers may wait: never so long that the line is idle for it, and only where that is certain."""

import dataclasses
import math
from collections import deque

import pytest

from gatewayd.protocol.rcp.flow import DataFlow
from gatewayd.protocol.rcp.frames import Ack, Nak
from gatewayd.protocol.rcp.framing import DATA_OVERHEAD, wire_size
from gatewayd.protocol.rcp.limits import Limits

FAST = 92160.0
IMAGE = bytes(700_000)
SIZE = len(IMAGE)
WINDOW = 4096
LIMITS = Limits(chunk=1024, unit=8, window=WINDOW, ring=2 * WINDOW)
CHUNK_WIRE = wire_size(1024 + DATA_OVERHEAD)
KNOWN = 8192  # bytes without a loss, after which a line is known
RARE = 512 * 1024
ANY_REST = 0.001


class Ideal:
    """A line and a device that acknowledges at once. Looks at ACKs when the flow says that they may not wait.

    Attributes:
        turns: how often it looked.
        idle_s: how long the line had nothing to send since it was known.
        rests: how long each rest was.
    """

    def __init__(self, *, told: float = FAST, distance_s: float = 0.01, window: int = WINDOW) -> None:
        limits = dataclasses.replace(LIMITS, window=window, ring=2 * window)
        self.flow = DataFlow(
            IMAGE, 5, limits, offset=0, credit=window, rate=told, turnaround_s=distance_s, now=0.0
        )
        self.rate = told
        self.now = self.idle_s = 0.0
        self.turns = 0
        self.rests: list[float] = []
        self._distance_s = distance_s
        self._window = window
        self._free_at = 0.0
        self._acks: deque[tuple[float, int]] = deque()

    def send(self) -> None:
        while (data := self.flow.next_frame(self.now)) is not None:
            if self.flow.received >= KNOWN:
                self.idle_s += max(0.0, self.now - self._free_at)
            self._free_at = max(self.now, self._free_at) + CHUNK_WIRE / self.rate
            self._acks.append((self._free_at + self._distance_s, data.offset + len(data.payload)))

    def carry(self, until: int) -> None:
        """Run until the device has that many bytes."""
        while self.flow.received < until:
            self.send()
            rest = self.flow.rest_until() - self.now
            self.rests += [rest] if rest > 0 else []
            self.now = max(self._acks[0][0], self.flow.rest_until())
            self.turns += 1
            while self._acks and self._acks[0][0] <= self.now:
                _, received = self._acks.popleft()
                self.flow.take(Ack(5, received, 0, min(SIZE, received + self._window)), self.now)

    def resting(self) -> float:
        """Lead it to where the flow lets answers wait; return until when."""
        self.carry(6 * KNOWN)  # the burst that is assumed at first fades
        self.send()
        until = self.flow.rest_until()
        assert until > self.now + ANY_REST
        return until


@pytest.mark.parametrize("distance_s", [0.001, 0.01, 0.02])
@pytest.mark.parametrize("rate", [11520.0, FAST, 300_000.0])
@pytest.mark.parametrize("window", [2048, 4096, 16384])
def test_the_line_is_never_idle_for_a_rest(distance_s: float, rate: float, window: int) -> None:
    restless, resting = (Ideal(told=rate, distance_s=distance_s, window=window) for _ in range(2))
    restless.flow.rest_until = lambda: -math.inf  # type: ignore[method-assign]  # the same, without rests
    for line in (restless, resting):
        line.carry(SIZE)
    assert resting.idle_s == pytest.approx(restless.idle_s)
    assert resting.now <= restless.now + 1e-6


def test_with_a_window_of_four_chunks_a_turn_serves_two() -> None:
    line = Ideal()
    line.resting()
    turns, begin = line.turns, line.flow.received
    line.carry(SIZE - 4096)
    assert line.turns - turns == pytest.approx((line.flow.received - begin) / 2048, abs=2)


def test_a_rest_ends_before_the_line_is_idle_by_enough_to_wake_up() -> None:
    line = Ideal()
    until = line.resting()
    assert line._free_at - until >= 0.004  # noqa: SLF001


def test_nobody_rests_before_the_line_is_known() -> None:
    line = Ideal()
    line.carry(KNOWN - 1024)
    assert line.rests == []


def test_nobody_rests_at_the_end() -> None:
    line = Ideal()
    line.carry(SIZE - 2048)
    line.send()
    assert line.flow.sent == SIZE
    assert line.flow.rest_until() < line.now


def test_nobody_rests_on_a_slow_line() -> None:
    line = Ideal(told=9600.0)
    line.carry(8 * KNOWN)
    assert line.rests == []


def test_after_a_loss_nobody_rests_and_two_frames_wait_until_much_has_come_through() -> None:
    line = Ideal()
    line.resting()
    in_flight = line.flow.sent - line.flow.received
    line.flow.take(Nak(5, line.flow.received, 0, line.flow.credit), line.now)
    line._acks.clear()  # noqa: SLF001 - what was in flight is dropped
    line.rests.clear()
    line.carry(line.flow.received + RARE - 4 * WINDOW)
    line.send()
    assert line.rests == []
    assert line.flow.sent - line.flow.received < in_flight
    line.carry(line.flow.received + 16 * WINDOW)
    assert line.rests


def test_nobody_rests_while_an_answer_is_overdue() -> None:
    line = Ideal()
    line.resting()
    line.flow.handle_timeout(line.flow.deadline())
    assert line.flow.rest_until() == -math.inf
    line.flow.next_frame(line.flow.deadline())  # a probe
    assert line.flow.rest_until() == -math.inf


def test_nobody_rests_while_the_device_is_busy() -> None:
    line = Ideal()
    line.resting()
    line.flow.hold(line.now + 1.0)
    assert line.flow.rest_until() == -math.inf


def test_nobody_rests_on_a_link_that_is_faster_than_its_speed_says() -> None:
    line = Ideal()
    line.rate = 10 * FAST  # as a microcontroller's own USB
    line.carry(SIZE)
    assert line.rests == []


def test_a_link_that_becomes_faster_is_waited_for_a_few_times_only() -> None:
    line = Ideal()
    line.carry(SIZE // 2)
    line.rests.clear()
    line.rate = 10 * FAST
    line.carry(SIZE)
    assert 0 < len(line.rests) <= 6
    assert sum(line.rests) < 0.2


def test_a_radio_is_no_line() -> None:
    limits = dataclasses.replace(LIMITS, overhead=7, chunk=200, largest=200)
    flow = DataFlow(IMAGE, 5, limits, offset=0, credit=SIZE, rate=FAST, turnaround_s=0.0, now=0.0)
    assert flow.next_frame(0.0) is not None
    assert flow.rest_until() == -math.inf
