"""One more try of an image that the bootloader took back, ordered by a person."""

from collections import deque
from pathlib import Path
from typing import Any

import pytest
from lab.commands_rig import a_rig
from lab.jobs import RUNNING, an_rcp_info, timeless

from gatewayd.errors import LinkLost, RequestError
from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.rcp.activation import next_step
from gatewayd.protocol.session import Failed, ImageState
from gatewayd.protocol.steps import Step, Update

BY = "ann"
X = b"\x22" * 32


@pytest.mark.parametrize(
    ("count", "boot_id", "is_activating", "step"),
    [
        (1, 8, False, Step.SECOND_TRY),  # the order was not carried out yet, or a lost line ended it
        (1, 8, True, Step.SECOND_TRY),  # ACTIVATE was lost
        (2, 7, True, Step.AWAIT_RESTART),  # it is about to restart
        (2, 8, True, Step.FAIL_REVERTED),
        (2, 8, False, Step.FAIL_REVERTED),  # somebody else had the one more try
    ],
)
def test_the_devices_own_count_decides(count: int, boot_id: int, step: Step, *, is_activating: bool) -> None:
    said: dict[str, Any] = {"running_sha256": RUNNING, "tried_sha256": X, "tried_count": count}
    info = an_rcp_info(boot_id=boot_id, image_state=ImageState.REVERTED, **said)
    update = Update(ImageId.of_file(X), "4.3.2", "4.3.1", 7, is_activating=is_activating, retry_reverted=True)
    assert next_step(update, info) is step


@timeless
async def test_a_person_orders_one_more_try_of_what_was_taken_back(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        rig.board.gives_up = True
        await rig.publish()
        failed = await rig.until_state(JobState.FAILED)
        assert failed.code == "reverted"
        assert "restarted before it was confirmed" in failed.reason
        with pytest.raises(RequestError) as refused:
            await rig.commands.retry("pump-1", BY)
        assert "gatewayctl retry pump-1 --reverted" in refused.value.hint
        rig.board.gives_up = False
        await rig.commands.retry("pump-1", BY, reverted=True)
        await rig.until_state(JobState.SUCCEEDED, 2)
        assert len(rig.board.started) == 2


@timeless
async def test_one_more_try_survives_a_lost_line_and_is_the_last_that_the_protocol_allows(
    tmp_path: Path,
) -> None:
    async with a_rig(tmp_path) as rig:
        rig.board.gives_up = True
        await rig.publish()
        await rig.until_state(JobState.FAILED)
        rig.board.says["data"] = deque([Failed(LinkLost("gone"))])
        await rig.commands.retry("pump-1", BY, reverted=True)
        failed = await rig.until_state(JobState.FAILED, 2)
        assert (failed.code, failed.second_try) == ("reverted", True)
        assert len(rig.board.started) == 2
        with pytest.raises(RequestError, match="the one more try that RCP allows") as refused:
            await rig.commands.retry("pump-1", BY, reverted=True)
        assert refused.value.code == "reverted"
        assert len(await rig.jobs()) == 2
