"""An attempt's figures: durable bytes where the device keeps its place, others where it forgets it."""

import pytest

from gatewayd.delivery.attempt_log import AttemptLog
from gatewayd.protocol.session import Progress, TransferStarted


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
