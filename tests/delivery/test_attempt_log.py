"""The figures of an attempt: how often they are told, and what is counted all the same."""

from gatewayd.delivery.attempt_log import REPORT_INTERVAL_S, AttemptLog
from gatewayd.protocol.session import Progress, TransferStarted

SIZE = 100_000


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
