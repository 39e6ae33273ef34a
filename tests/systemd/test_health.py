"""What LoopLag makes of late ticks, and what is held to hang."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from gatewayd.errors import HostError
from gatewayd.status.gateway import LagFigures
from gatewayd.systemd.health import (
    DATABASE_PROBE_S,
    INTERVAL_S,
    KEPT,
    DatabaseProbe,
    LoopLag,
    Vitals,
    complaint,
)


class Clock:
    """A clock, and timers that are as late as `lateness` says; then `ended` is called."""

    def __init__(self, *lateness_s: float) -> None:
        self.now = 1000.0
        self._lateness = list(lateness_s)
        self.ended: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.Handle:
        loop = asyncio.get_running_loop()
        if not self._lateness:
            return loop.call_soon(self.ended)
        self.now += seconds + self._lateness.pop(0)
        return loop.call_soon(call)


async def measured(*lateness_s: float) -> LagFigures:
    clock = Clock(*lateness_s)
    lag = LoopLag(clock, call_later=clock.call_later)
    measuring = asyncio.create_task(lag.measure())
    clock.ended = measuring.cancel
    with pytest.raises(asyncio.CancelledError):
        await measuring
    return lag.figures()


async def test_nothing_measured_is_all_zero() -> None:
    assert await measured() == LagFigures()


async def test_a_tick_in_time_does_not_shift_the_next() -> None:
    found = await measured(0.004, 0.004, 0.004)
    assert found.samples == 3
    assert [found.p50_ms, found.max_ms] == pytest.approx([4, 4])


async def test_one_in_a_thousand_is_not_yet_the_p99_9() -> None:
    found = await measured(*[0.001] * 999, 0.05)
    assert found.p99_9_ms == pytest.approx(1)
    assert found.max_ms == pytest.approx(50)
    found = await measured(*[0.001] * 998, 0.05, 0.05)
    assert found.p99_9_ms == pytest.approx(50)


async def test_the_ticks_that_a_long_stop_swallowed_were_late_too() -> None:
    found = await measured(1.05)
    assert found.samples == 11
    assert [found.p50_ms, found.max_ms] == pytest.approx([550, 1050])


async def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    lag, due = LoopLag(lambda: 0.0), 0.0
    for _ in range(KEPT + 1):
        due = lag.woke(due, due + 0.09)
    for _ in range(KEPT - 1):
        due = lag.woke(due, due + 0.001)
    found = lag.figures()
    assert [found.samples, found.max_ms] == pytest.approx([KEPT, 90])
    lag.woke(due, due + 0.001)
    assert lag.figures().max_ms == pytest.approx(1)


async def test_a_stop_of_days_is_done_with_at_once() -> None:
    lag = LoopLag(lambda: 0.0)
    due = lag.woke(0.0, 1e6)
    assert 1e6 < due <= 1e6 + INTERVAL_S + 1e-6
    assert lag.figures().samples == KEPT


async def test_its_figures_are_in_the_log_when_it_ends() -> None:
    with capture_logs() as logs:
        await measured(0.002, 0.004, 0.003)
    (line,) = logs
    assert (line["event"], line["samples"]) == ("event loop", 3)
    assert (line["lag_p50_ms"], line["lag_p99_9_ms"], line["lag_max_ms"]) == (3.0, 4.0, 4.0)


async def test_the_worst_is_told_once() -> None:
    lag = LoopLag(lambda: 0.0)
    due = lag.woke(10.0, 12.5)
    lag.woke(due, due + 0.01)
    assert lag.take_worst_s() == pytest.approx(2.5)
    assert lag.take_worst_s() == 0
    assert lag.figures().max_ms == pytest.approx(2500)


async def test_a_database_is_silent_from_the_question_to_the_answer() -> None:
    now, answer, slept = 1000.0, asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds == DATABASE_PROBE_S
        slept.set()
        await asyncio.Event().wait()

    probe = DatabaseProbe(answer.wait, lambda: now, sleep=sleep)
    assert probe.silent_s == 0
    running = asyncio.create_task(probe.keep_asking())
    await asyncio.sleep(0)
    now += 7
    assert probe.silent_s == 7
    answer.set()
    await slept.wait()
    now += 7
    assert probe.silent_s == 0
    running.cancel()


async def test_a_database_that_has_trouble_is_there() -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        raise HostError("the disk is full", code="disk_full")

    async def sleep(_: float) -> None:
        if asked == 3:
            raise asyncio.CancelledError

    probe = DatabaseProbe(ask, lambda: 0.0, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await probe.keep_asking()
    assert probe.silent_s == 0


@pytest.mark.parametrize(
    ("vitals", "why"),
    [
        (Vitals(), ""),
        (Vitals(9, 299, 59, "pump-1"), ""),
        (Vitals(late_loop_s=11), "the event loop was late by 11 s"),
        (Vitals(silent_database_s=301), "the database has not answered for 301 s"),
        (
            Vitals(overdue_transfer_s=61, overdue_device="pump-1"),
            "the transfer to pump-1 has been overdue for 61 s",
        ),
    ],
)
def test_only_what_a_restart_would_mend_is_complained_of(vitals: Vitals, why: str) -> None:
    assert complaint(vitals) == why
