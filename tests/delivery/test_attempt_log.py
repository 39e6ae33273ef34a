"""Figures of an attempt: durable bytes where the device keeps its place, and how often it reports."""

import pytest

from gatewayd.delivery.attempt_log import REPORT_INTERVAL_S, AttemptLog
from gatewayd.protocol.session import Progress, TransferStarted

SIZE = 100_000


@pytest.mark.parametrize(
    ("is_durable", "durable", "volatile"), [(True, (4000, 5120), (0, 0)), (False, (1000, 1000), (4000, 6000))]
)
def test_only_bytes_that_survive_a_power_cut_are_durable(
    is_durable: bool, durable: tuple[int, int], volatile: tuple[int, int]
) -> None:
    log = AttemptLog(0.0, "2026-11-28T12:00:00Z", durable=1000)
    log.started(TransferStarted(4000, 9000, is_durable=is_durable), 1.0)
    assert (log.durable, log.volatile) == (durable[0], volatile[0])
    log.progressed(Progress(6000, 5120 if is_durable else 0, 9000), 2.0)
    assert (log.durable, log.volatile) == (durable[1], volatile[1])


def test_progress_is_told_a_few_times_a_second_and_always_at_its_end() -> None:
    log = AttemptLog(0.0, "", durable=0)
    log.started(TransferStarted(0, SIZE), 0.0)
    told = []
    for number in range(1, 101):
        now = number * 0.01
        if log.progressed(Progress(number * 1000, 0, SIZE), now) is not None:
            told.append(number)
    assert told[0] == 1
    assert told[-1] == 100
    assert len(told) <= 1.0 / REPORT_INTERVAL_S + 2


def test_what_is_not_told_counts() -> None:
    log = AttemptLog(0.0, "", durable=0)
    log.started(TransferStarted(0, SIZE), 0.0)
    assert log.progressed(Progress(1000, 0, SIZE), 1.0) == 1000
    assert log.progressed(Progress(3000, 2048, SIZE), 1.1) is None
    assert log.durable == 2048
    assert log.record(2.0, None).received == 3000
    assert log.progressed(Progress(SIZE, SIZE, SIZE), 1.2) is not None
    assert log.seconds == 1.2
