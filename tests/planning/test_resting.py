"""A device that answers and fails, again and again: how often another job is made for it."""

import asyncio
from collections import deque
from pathlib import Path

from lab.commands_rig import a_rig
from lab.jobs import a_device, timeless

from gatewayd.errors import LinkError
from gatewayd.planning.planner import REST_LIMIT_S, plan
from gatewayd.planning.reconciler import RETRIES_AT_ONCE
from gatewayd.protocol.session import Failed, Outcome

HOURS = 4


class Again(deque[Outcome]):
    """One answer for ever."""

    def popleft(self) -> Outcome:
        return self[0]


@timeless
async def test_it_rests_after_some_failures_and_a_new_release_or_a_person_does_not_wait(
    tmp_path: Path,
) -> None:
    async with a_rig(tmp_path, a_device(attempts=1)) as rig:
        rig.board.says["offer"] = Again([Failed(LinkError("garbled", code="no_answer"))])
        await rig.publish()
        await asyncio.sleep(HOURS * 3600)
        jobs = len(await rig.jobs())
        most = 1 + RETRIES_AT_ONCE + HOURS * 3600 / REST_LIMIT_S
        assert RETRIES_AT_ONCE < jobs <= most
        (decision,) = plan(rig.reconciler.settings, await rig.reconciler.known()).decisions
        assert decision.code == "no_answer"
        await rig.commands.retry("pump-1", "ann")
        assert len(await rig.jobs()) == jobs + 1
        await rig.publish(3, bytes(reversed(range(256))))
        assert (await rig.last()).version == "4.3.3"
