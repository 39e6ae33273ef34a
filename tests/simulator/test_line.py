"""A line carries its bytes per second and no more, in virtual time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.line import Line, LineProfile

BAUD = 115200


def make(**profile: float) -> Line:
    return Line(LineProfile(**profile), random.Random(1))


class Queue:
    """A pty's buffer: gives what it has, cannot be asked how much that is."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, size: int) -> bytes:
        data, self.content = self.content[:size], self.content[size:]
        return data


def carry(
    line: Line, queue: Queue, lateness: random.Random | None = None, limit_s: float = 60
) -> list[float]:
    """Let the line take all of a full queue, waking up late at times; return when each byte arrived."""
    now, arrivals = 100.0, []
    while now < 100.0 + limit_s:
        if room := line.room(now):
            line.pulled(room, queue.read(room), now, BAUD)
        for data, _ in line.arrived(now):
            arrivals += [now] * len(data)
        due = [at for at in (line.next_arrival(), line.free_at()) if at is not None and at > now]
        if not queue.content and line.next_arrival() is None:
            break
        now = min(due, default=now)
        now += lateness.random() * 0.004 if lateness else 0.0
    return arrivals


@pytest.mark.parametrize("rate", [960, 11520, 92160])
@pytest.mark.parametrize("late", [False, True])
def test_a_full_queue_leaves_at_the_rate_within_half_a_percent(rate: int, late: bool) -> None:
    size = rate * 4
    lateness = random.Random(2) if late else None
    arrivals = carry(make(rate_bytes_per_s=rate), Queue(bytes(size)), lateness)
    assert len(arrivals) == size
    assert (arrivals[-1] - 100.0) == pytest.approx(4.0, rel=0.005)


def test_no_byte_arrives_before_the_line_could_have_carried_it() -> None:
    rate = 11520
    arrivals = carry(make(rate_bytes_per_s=rate), Queue(bytes(5000)), random.Random(3))
    assert all(at >= 100.0 + (n + 1) / rate - 1e-9 for n, at in enumerate(arrivals))


def test_an_idle_line_saves_nothing_up() -> None:
    line = make(rate_bytes_per_s=1000)
    carry(line, Queue(bytes(100)))
    line.pulled(line.room(500.0), b"", 500.0, BAUD)
    assert line.room(900.0) == 1000 * 0.002


def test_a_stopped_process_does_not_make_up_for_all_of_it() -> None:
    line = make(rate_bytes_per_s=1000)
    room = line.room(0.0)
    line.pulled(room, bytes(room), 0.0, BAUD)
    assert line.room(60.0) <= 1000 * 0.25 + room


def test_latency_comes_on_top_and_costs_no_throughput() -> None:
    line = make(rate_bytes_per_s=1000, latency_s=0.5)
    line.put(bytes(100), 0.0, BAUD)
    assert line.arrived(0.5) == []
    assert sum(len(data) for data, _ in line.arrived(0.6001)) == 100
    line.put(b"x", 0.05, BAUD)
    assert line.next_arrival() == pytest.approx(0.601)


def test_without_a_rate_everything_arrives_at_once() -> None:
    line = make()
    line.put(bytes(100_000), 1.0, BAUD)
    assert sum(len(data) for data, _ in line.arrived(1.0)) == 100_000
    assert line.free_at() is None


def test_bytes_carry_the_speed_they_were_sent_at() -> None:
    line = make()
    line.put(b"a", 0.0, 9600)
    line.put(b"b", 0.0, 921600)
    assert line.arrived(0.0) == [(b"a", 9600), (b"b", 921600)]


@pytest.mark.parametrize("probability", [1e-3, 0.02, 0.5])
def test_flips_and_drops_come_as_often_as_asked_for(probability: float) -> None:
    size = 200_000
    flipping, dropping = make(flip_rate=probability), make(drop_rate=probability)
    flipping.put(bytes(size), 0.0, BAUD)
    dropping.put(bytes(size), 0.0, BAUD)
    flipped = b"".join(data for data, _ in flipping.arrived(0.0))
    dropped = b"".join(data for data, _ in dropping.arrived(0.0))
    assert len(flipped) == size
    assert size - flipped.count(0) == pytest.approx(size * probability, rel=0.2)
    assert all(byte.bit_count() <= 1 for byte in flipped)
    assert size - len(dropped) == pytest.approx(size * probability, rel=0.2)


def test_certain_faults() -> None:
    line = make(drop_rate=1.0)
    line.put(b"gone", 0.0, BAUD)
    assert b"".join(data for data, _ in line.arrived(0.0)) == b""


@given(st.lists(st.binary(max_size=50), max_size=30), st.integers(0, 2**32))
def test_the_same_seed_makes_the_same_faults_however_the_bytes_are_cut(
    pieces: list[bytes], seed: int
) -> None:
    profile = LineProfile(drop_rate=0.1)
    one, many = (Line(profile, random.Random(seed)) for _ in range(2))
    one.put(b"".join(pieces), 0.0, BAUD)
    for piece in pieces:
        many.put(piece, 0.0, BAUD)
    assert b"".join(d for d, _ in one.arrived(0.0)) == b"".join(d for d, _ in many.arrived(0.0))
