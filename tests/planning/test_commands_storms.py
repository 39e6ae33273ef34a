"""Persons, publishers and cables at odds: in whatever order, nothing doubles, sticks or breaks."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest
from lab.commands_rig import Rig, a_rig
from lab.jobs import a_device, timeless
from lab.seeds import seeds
from structlog.testing import capture_logs

from gatewayd.errors import GatewaydError
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.version import Version
from gatewayd.protocol.session import ImageState

pytestmark = pytest.mark.slow

NAMES = ("pump-1", "pump-2", "pump-3")
ACTS = 60


class Storm:
    def __init__(self, rig: Rig, chance: random.Random) -> None:
        self.rig = rig
        self.chance = chance
        self.patch = 1

    async def act(self) -> None:
        """Do one thing, which may be refused."""
        commands, name = self.rig.commands, self.chance.choice(NAMES)
        acts = [
            self.publish,
            lambda: commands.push(name, Version(4, 3, self.next_patch()), self.image(), "ann"),
            lambda: commands.approve(name, "ann"),
            lambda: commands.cancel(name, "ann"),
            lambda: commands.retry(name, "ann"),
            lambda: commands.pause([name], "ann"),
            lambda: commands.pause([], "ann"),
            lambda: commands.resume([name], "ann"),
            lambda: commands.resume([], "ann"),
            self.break_something,
        ]
        try:
            await self.chance.choice(acts)()
        except GatewaydError as error:
            assert error.code != "internal"  # noqa: PT017 - a refusal is as good as an answer

    def next_patch(self) -> int:
        self.patch += 1
        return self.patch

    def image(self) -> bytes:
        return self.chance.randbytes(256)

    async def publish(self) -> None:
        await self.rig.publish(self.next_patch(), self.image())

    async def break_something(self) -> None:
        board = self.rig.bench.boards[self.chance.choice(NAMES)]
        board.is_unplugged = self.chance.random() < 0.5
        board.is_silent = self.chance.random() < 0.3

    async def calm(self) -> None:
        """Repair everything, let everything go, and publish once more."""
        for board in self.rig.bench.boards.values():
            board.is_unplugged = board.is_silent = False
            if (
                board.info.image_state is ImageState.ON_TRIAL
            ):  # its job failed meanwhile; the trial ends alone
                board.info = replace(board.info, image_state=ImageState.CONFIRMED)
        await self.rig.commands.resume(NAMES, "ann")
        await self.rig.commands.resume([], "ann")
        await self.publish()
        await asyncio.sleep(3600)
        for name in NAMES:
            try:
                await self.rig.commands.approve(name, "ann")
            except GatewaydError as error:
                assert error.code in ("not_offered", "no_active_job")  # noqa: PT017


@pytest.mark.parametrize("seed", seeds(12))
def test_a_storm_ends_with_everybody_on_the_last_release(tmp_path: Path, seed: int) -> None:
    @timeless
    async def story() -> None:
        devices = [a_device(name, install="manual" if name == "pump-3" else "auto") for name in NAMES]
        with capture_logs() as logs:
            async with a_rig(tmp_path, *devices) as rig:
                storm = Storm(rig, random.Random(seed))
                for _ in range(ACTS):
                    together = [storm.act() for _ in range(storm.chance.choice((1, 1, 2, 4)))]
                    await asyncio.gather(*together)
                    await asyncio.sleep(storm.chance.choice((0.0, 0.1, 1.0, 7.0, 400.0)))
                    active = [job.device for job in await rig.jobs() if job.is_active]
                    assert len(active) == len(set(active))
                await storm.calm()
                await asyncio.sleep(3600)
                last = {job.device: job for job in await rig.jobs()}
                assert {name: (job.version, job.state) for name, job in last.items()} == dict.fromkeys(
                    NAMES, (f"4.3.{storm.patch}", JobState.SUCCEEDED)
                )
                for job in await rig.jobs():
                    attempts = await rig.attempts(job.id)
                    assert job.is_active or all(attempt.ended_at for attempt in attempts), job
        assert not [line for line in logs if "defect" in line["event"]]

    story()
