"""A device that says for ever that an image is on trial, while the old one runs, and tells no version."""

from dataclasses import replace
from pathlib import Path

from lab.commands_rig import Rig, a_rig
from lab.jobs import timeless, until

from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.session import ImageState


def stick(rig: Rig) -> None:
    """From its restart into the new image on, the device says that this is on trial, and runs the old one.

    It tells no version: with the old one it would be taken for reverted at once.
    """
    old = rig.board.info

    def lie() -> None:
        said = rig.board.info
        stuck = replace(said, version=None, running_sha256=old.running_sha256)
        rig.board.info = replace(stuck, image_state=ImageState.ON_TRIAL)

    hear = rig.board.hear

    def then(frame: str) -> str:
        answer = hear(frame)
        if frame == "activate":
            lie()
        return answer

    rig.board.hear = then  # type: ignore[method-assign]


@timeless
async def test_a_trial_that_does_not_end_has_a_code_and_a_release_published_meanwhile_is_seen(
    tmp_path: Path,
) -> None:
    async with a_rig(tmp_path) as rig:
        stick(rig)
        await rig.publish()
        await until(lambda: any(job.code == "on_trial" for job in rig.bench.witness.moves))
        await rig.publish(3, bytes(reversed(range(256))))
        assert await rig.states() == ["4.3.2 activating"], "only the device can say what became of it"
        failed = await rig.until_state(JobState.FAILED)
        assert failed.code == "trial_overdue"
        assert "restart it" in failed.reason
        await until(
            lambda: any((job.id, job.code) == (2, "trial_overdue") for job in rig.bench.witness.moves)
        )
        assert await rig.states() == ["4.3.2 failed", "4.3.3 queued"]
        del rig.board.hear
        rig.board.info = replace(rig.board.info, version="4.3.1", image_state=ImageState.REVERTED)
        await rig.until_state(JobState.SUCCEEDED, 2)
