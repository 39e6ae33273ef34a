"""The flow of DATA alone: bounds, probes, going back, time-outs."""

import random
from collections import deque
from dataclasses import replace

import pytest

from gatewayd.errors import DeviceError
from gatewayd.protocol.rcp.flow import DataFlow
from gatewayd.protocol.rcp.frames import Ack, Nak
from gatewayd.protocol.rcp.framing import DATA_OVERHEAD, wire_size
from gatewayd.protocol.rcp.limits import Limits, whole_units

IMAGE = random.Random(3).randbytes(20_000)
SIZE = len(IMAGE)
RATE = 11520.0
MANY = 512  # frames waiting: what is in flight is bounded by other things
LIMITS = Limits(chunk=1024, unit=8, window=4096, ring=8192, waiting=MANY)
CHUNK_WIRE = wire_size(1024 + DATA_OVERHEAD)


def make_flow(
    limits: Limits = LIMITS, *, offset: int = 0, credit: int = 4096, turnaround_s: float = 0.0
) -> DataFlow:
    return DataFlow(
        IMAGE, 5, limits, offset=offset, credit=credit, rate=RATE, turnaround_s=turnaround_s, now=0.0
    )


def drain(flow: DataFlow, now: float = 0.0) -> list[tuple[int, int]]:
    """Take what the flow would send now: offset and size of each; size 0 is a probe."""
    sent = []
    while (data := flow.next_frame(now)) is not None:
        assert data.payload == IMAGE[data.offset : data.offset + len(data.payload)]
        sent.append((data.offset, len(data.payload)))
    return sent


def is_whole_from(offset: int, sent: list[tuple[int, int]]) -> bool:
    """Whether the rest of the first window is sent, in whatever chunks."""
    ends = [at + size for at, size in sent]
    return [at for at, _ in sent] == [offset, *ends[:-1]] and ends[-1] > 4096 - 1024


def ack(received: int, credit: int | None = None, durable: int = 0) -> Ack:
    return Ack(5, received, durable, min(SIZE, received + 4096) if credit is None else credit)


def nak(received: int) -> Nak:
    return Nak(5, received, 0, min(SIZE, received + 4096))


def time_out(flow: DataFlow) -> tuple[float, list[tuple[int, int]]]:
    """Let the deadline come; return when that was, and what is sent then."""
    now = flow.deadline()
    flow.handle_timeout(now)
    return now, drain(flow, now)


# What may be outstanding


def test_a_window_is_sent_and_no_more_until_an_ack() -> None:
    flow = make_flow(credit=SIZE)
    assert drain(flow) == [(0, 1024), (1024, 1024), (2048, 1024), (3072, 1024)]
    flow.take(ack(1024, SIZE), 0.1)
    assert drain(flow, 0.1) == [(4096, 1024)]


def test_the_ring_counts_wire_bytes() -> None:
    limits = Limits(chunk=1024, unit=8, window=SIZE, ring=3 * CHUNK_WIRE - 1, waiting=MANY)
    assert len(drain(make_flow(limits, credit=SIZE))) == 2


def test_a_ring_that_is_too_small_for_one_frame_gets_one_at_a_time() -> None:
    flow = make_flow(Limits(chunk=1024, unit=8, window=4096, ring=0, waiting=MANY))
    assert drain(flow) == [(0, 1024)]
    flow.take(ack(1024), 0.1)
    assert drain(flow, 0.1) == [(1024, 1024)]


def test_a_claimed_window_of_gigabytes_takes_a_bounded_number_of_frames() -> None:
    image = bytes(1_000_000)
    limits = Limits(chunk=128, unit=1, window=2**32 - 1, ring=2**32 - 1, waiting=MANY)
    flow = DataFlow(image, 5, limits, offset=0, credit=len(image), rate=RATE, turnaround_s=0.0, now=0.0)
    assert sum(1 for _ in iter(lambda: flow.next_frame(0.0), None)) == 512


def test_chunks_are_whole_units_and_the_last_is_what_is_left() -> None:
    flow = make_flow(
        Limits(chunk=1000, unit=8, window=SIZE, ring=10**6, waiting=MANY), offset=17_000, credit=SIZE
    )
    assert drain(flow) == [(17_000, 1000), (18_000, 1000), (19_000, 1000)]


@pytest.mark.parametrize(("size", "unit", "whole"), [(1030, 8, 1024), (1024, 8, 1024), (100, 256, 100)])
def test_whole_units(size: int, unit: int, whole: int) -> None:
    assert whole_units(size, unit) == whole


def test_a_chunk_waits_for_credit_and_is_cut_only_when_nothing_else_would_ever_move() -> None:
    flow = make_flow(credit=1500)
    assert drain(flow) == [(0, 1024)]
    flow.take(ack(1024, 1500), 0.1)
    assert drain(flow, 0.1) == []
    _, sent = time_out(flow)
    assert sent == [(1024, 472)]  # whole units of the 476 there is credit for


def test_without_any_credit_a_time_out_probes() -> None:
    flow = make_flow(credit=1024)
    drain(flow)
    flow.take(ack(1024, 1024), 0.1)
    assert time_out(flow)[1] == [(1024, 0)]


# Time-outs


def test_the_time_out_is_the_lines_time_and_a_floor_from_the_last_frame_on() -> None:
    flow = make_flow()
    drain(flow, 1.0)
    assert flow.deadline() == pytest.approx(1.0 + 4 * CHUNK_WIRE / RATE + 0.05)
    flow.take(ack(1024, 4096), 1.0 + CHUNK_WIRE / RATE)
    assert flow.deadline() == pytest.approx(1.0 + 4 * CHUNK_WIRE / RATE + 0.05)


@pytest.mark.parametrize("overhead", [None, 3])
def test_the_floor_is_a_setting_beyond_which_nothing_doubles(overhead: int | None) -> None:
    flow = make_flow(replace(LIMITS, chunk=200, overhead=overhead, floor_s=2.0))
    drain(flow)
    first, _ = time_out(flow)
    second, _ = time_out(flow)
    third, _ = time_out(flow)
    assert 2.0 < first < 3.0
    assert third - second == pytest.approx(second - first if overhead is None else 2.0)


def test_a_slow_turnaround_is_waited_for_four_times() -> None:
    flow = make_flow(turnaround_s=0.1)
    drain(flow)
    assert flow.deadline() == pytest.approx(4 * CHUNK_WIRE / RATE + 0.4)


def test_the_turnaround_is_learned_from_a_frame_that_was_alone() -> None:
    flow = make_flow(Limits(chunk=1024, unit=8, window=1024, ring=8192, waiting=MANY))
    now = 0.0
    for received in range(1024, 11 * 1024, 1024):
        drain(flow, now)
        now += CHUNK_WIRE / RATE + 0.2
        flow.take(ack(received), now)
    assert flow.turnaround_s == pytest.approx(0.2, rel=0.1)


def test_a_turnaround_that_cannot_be_is_not_believed() -> None:
    flow = make_flow(Limits(chunk=1024, unit=8, window=1024, ring=8192, waiting=MANY))
    drain(flow, 0.0)
    flow.take(ack(1024), 10_000.0)
    assert flow.turnaround_s <= 1.0


def test_a_line_slower_than_said_is_measured_and_waited_for() -> None:
    flow, now = make_flow(credit=SIZE), 0.0
    drain(flow, now)
    for received in range(1024, 13 * 1024, 1024):
        now += CHUNK_WIRE / RATE * 3
        flow.take(ack(received, SIZE), now)
        drain(flow, now)
    assert flow.deadline() - now == pytest.approx(3 * 4 * CHUNK_WIRE / RATE + 0.05, rel=0.15)


def test_time_outs_without_an_advance_double_up_to_a_quarter_second() -> None:
    flow = make_flow()
    drain(flow)
    waits, last = [], 0.0
    for _ in range(5):
        now, sent = time_out(flow)
        assert sent == [(4096, 0)]
        waits.append(round(now - last - 4 * CHUNK_WIRE / RATE, 6))
        last = now
    assert waits == [0.05, 0.1, 0.2, 0.25, 0.25]


def test_sixteen_rounds_are_a_stall_and_an_advance_begins_them_anew() -> None:
    flow = make_flow()
    drain(flow)
    for _ in range(16):
        time_out(flow)
    assert not flow.is_stalled
    flow.take(ack(1024), flow.deadline())
    drain(flow, flow.deadline())
    for _ in range(16):
        time_out(flow)
    assert not flow.is_stalled
    time_out(flow)
    assert flow.is_stalled


def test_naks_without_an_advance_are_rounds_too() -> None:
    flow = make_flow()
    for _ in range(17):
        drain(flow)
        assert not flow.is_stalled
        flow.take(nak(0), 0.0)
    assert flow.is_stalled


def test_busy_holds_the_deadline_and_clears_the_rounds() -> None:
    flow = make_flow()
    drain(flow)
    for _ in range(16):
        now, _ = time_out(flow)
    flow.hold(now + 30.0)
    assert flow.deadline() == now + 30.0
    assert time_out(flow) == (now + 30.0, [(4096, 0)])
    assert not flow.is_stalled


def test_an_early_call_does_nothing() -> None:
    flow = make_flow()
    drain(flow)
    flow.handle_timeout(flow.deadline() - 0.001)
    assert drain(flow) == []


def test_a_deadline_that_comes_while_there_is_room_to_send_is_put_off() -> None:
    flow = make_flow()
    due = flow.deadline()
    flow.handle_timeout(due)
    assert flow.deadline() > due
    assert flow.rounds == 0
    assert drain(flow, due)[0] == (0, 1024)


def test_time_spent_busy_is_no_turnaround() -> None:
    flow = make_flow(Limits(chunk=1024, unit=8, window=1024, ring=8192, waiting=MANY))
    drain(flow)
    flow.hold(0.8)
    flow.take(ack(1024), 0.8)
    assert flow.turnaround_s == 0.0


# Probes and going back


def test_a_probe_that_shows_a_loss_goes_back_once() -> None:
    flow = make_flow()
    drain(flow)
    now, _ = time_out(flow)
    flow.take(ack(0), now)
    assert is_whole_from(0, drain(flow, now))
    flow.take(ack(0), now)  # the answer to the second of two probes
    assert drain(flow, now) == []


def test_a_probe_whose_ack_has_everything_shows_no_loss() -> None:
    flow = make_flow(credit=1024)
    drain(flow)
    flow.take(ack(1024, 1024), 0.1)
    now, _ = time_out(flow)
    flow.take(ack(1024, 1024), now)
    assert drain(flow, now) == []


def test_an_ack_that_advances_does_not_answer_the_probe() -> None:
    flow = make_flow(credit=4096)
    drain(flow)
    now, _ = time_out(flow)
    flow.take(ack(1024, 4096), now)  # of the DATA: it was only late
    assert drain(flow, now) == []
    flow.take(ack(1024, 4096), now)  # and this is the probe's
    assert is_whole_from(1024, drain(flow, now))


def test_a_probe_is_forgotten_when_everything_before_it_has_arrived() -> None:
    flow = make_flow(credit=SIZE)
    drain(flow)
    now, _ = time_out(flow)
    flow.take(ack(4096, SIZE), now)
    assert drain(flow, now)[0] == (4096, 1024)
    flow.take(ack(4096, SIZE), now)  # the probe's; nothing is known of what was sent after it
    assert drain(flow, now) == []


def test_the_late_answer_to_a_first_probe_says_nothing_of_what_was_sent_before_a_second() -> None:
    flow = make_flow(credit=4096)
    drain(flow)
    now, _ = time_out(flow)
    flow.take(ack(2048, 6144), now)
    drain(flow, now)  # up to 6144
    now, sent = time_out(flow)
    assert sent == [(6144, 0)]
    flow.take(ack(4096, 8192), now)
    assert drain(flow, now) == [(6144, 1024), (7168, 1024)]
    flow.take(ack(4096, 8192), now)  # of the first probe, made at 4096
    assert drain(flow, now) == []
    flow.take(ack(4096, 8192), now)  # of the second, made at 6144: what was behind 4096 is lost
    assert drain(flow, now)[0][0] == 4096


def test_an_ack_without_an_advance_that_nobody_asked_for_means_nothing() -> None:
    flow = make_flow()
    drain(flow)
    flow.take(ack(0), 0.1)
    assert drain(flow, 0.1) == []


def test_a_nak_forgets_the_probe() -> None:
    flow = make_flow()
    drain(flow)
    now, _ = time_out(flow)
    flow.take(nak(1024), now)
    assert is_whole_from(1024, drain(flow, now))
    flow.take(ack(1024), now)
    assert drain(flow, now) == []


def test_a_nak_at_what_was_sent_has_nothing_to_go_back_to() -> None:
    flow = make_flow()
    drain(flow)
    flow.take(nak(4096), 0.1)
    assert drain(flow, 0.1)[0] == (4096, 1024)
    assert flow.chunk == 1024


def test_after_a_nak_what_was_in_flight_still_fills_the_ring() -> None:
    flow = make_flow(Limits(chunk=1024, unit=8, window=4096, ring=6 * CHUNK_WIRE, waiting=MANY))
    assert len(drain(flow)) == 4
    flow.take(nak(0), 0.1)
    at_once = sum(size for _, size in drain(flow, 0.1))
    assert at_once <= 2 * 1024
    flow.take(ack(flow.chunk), 0.2)
    assert at_once + sum(size for _, size in drain(flow, 0.2)) > 3 * 1024


def test_what_arrives_after_all_is_not_sent_again() -> None:
    flow = make_flow(credit=SIZE)
    drain(flow)
    flow.take(nak(0), 0.1)
    flow.take(ack(4096, SIZE), 0.2)
    assert drain(flow, 0.2)[0] == (4096, flow.chunk)


def test_an_answer_of_before_is_ignored() -> None:
    flow = make_flow()
    drain(flow)
    flow.take(ack(2048), 0.1)
    drain(flow, 0.1)
    assert flow.take(nak(1024), 0.2) is False
    assert drain(flow, 0.2) == []
    assert flow.received == 2048


@pytest.mark.parametrize(
    "answer",
    [
        Ack(5, 5120, 0, 8192),  # more than was sent
        Ack(5, 1024, 0, 1023),
        Ack(5, 1024, SIZE + 1, 4096),
        Nak(5, 1024, 0, SIZE + 1),
        Ack(5, 2**32 - 1, 2**32 - 1, 2**32 - 1),
    ],
)
def test_numbers_that_cannot_be_are_a_broken_device(answer: Ack | Nak) -> None:
    flow = make_flow()
    drain(flow)
    with pytest.raises(DeviceError) as caught:
        flow.take(answer, 0.1)
    assert caught.value.code == "bad_offset"
    assert str(answer.received) in caught.value.message
    assert flow.received == 0


# How large chunks are


def test_a_line_that_loses_nothing_gets_the_largest_chunks() -> None:
    flow = make_flow(credit=SIZE)
    for received in range(1024, SIZE, 1024):
        drain(flow)
        flow.take(ack(received, SIZE), 0.0)
        assert flow.chunk == 1024


def test_where_nothing_arrives_chunks_become_as_small_as_they_may_before_it_is_a_stall() -> None:
    flow = make_flow(Limits(chunk=1024, unit=48, window=4096, ring=8192, waiting=MANY))
    chunks = []
    while not flow.is_stalled:
        drain(flow)
        flow.take(nak(0), 0.0)
        chunks.append(flow.chunk)
    assert all(chunk % 48 == 0 for chunk in chunks)
    assert chunks[0] > 400  # one loss is not yet a bad line
    assert min(chunks) < 200


def test_chunks_grow_again_when_the_line_has_become_better() -> None:
    image = bytes(1_000_000)
    flow = DataFlow(image, 5, LIMITS, offset=0, credit=len(image), rate=RATE, turnaround_s=0.0, now=0.0)
    for _ in range(12):
        drain_of(flow)
        flow.take(Nak(5, 0, 0, len(image)), 0.0)
    smallest, sent = flow.chunk, 0
    while flow.chunk < 1024:
        sent = drain_of(flow)
        flow.take(Ack(5, sent, 0, len(image)), 0.0)
    assert smallest < 256
    assert sent < 400_000


def drain_of(flow: DataFlow) -> int:
    """Take what the flow would send now; return where it is then."""
    while flow.next_frame(0.0) is not None:
        pass
    return flow.sent


# How much is in flight


def test_before_anything_is_known_little_more_than_two_frames_are_in_flight() -> None:
    assert len(drain(make_flow(replace(LIMITS, waiting=2)))) == 2


@pytest.mark.parametrize(("wire_s", "waiting"), [(0.2, 2), (0.05, 4)], ids=["slow", "where answers may wait"])
@pytest.mark.parametrize("distance_s", [0.0, 0.1, 0.25])
def test_in_flight_is_what_fills_the_line_and_a_few_frames(
    distance_s: float, wire_s: float, waiting: int
) -> None:
    image = bytes(300_000)
    rate = CHUNK_WIRE / wire_s
    limits = replace(LIMITS, window=len(image), ring=2 * len(image), waiting=2)
    flow = DataFlow(image, 5, limits, offset=0, credit=len(image), rate=rate, turnaround_s=0.0, now=0.0)
    now = idle_at = 0.0
    acks: deque[tuple[float, int]] = deque()
    in_flight = 0
    while flow.received < 200_000:
        while (data := flow.next_frame(now)) is not None:
            idle_at = max(idle_at, now) + wire_s
            acks.append((idle_at + distance_s, data.offset + len(data.payload)))
        in_flight = len(acks)
        now, received = acks.popleft()
        flow.take(Ack(5, received, 0, len(image)), now)
    most = distance_s / wire_s + waiting
    assert most - 1 <= in_flight <= most
