"""End an attempt at any step of an update: afterwards it is neither lost nor done twice."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.board import Board, a_bench
from lab.cut_short import CutShort, go_on
from lab.jobs import IMAGE, a_device, an_rcp_info, timeless

from gatewayd.delivery.attempt import Attempt
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.rules import RollbackMark
from gatewayd.store.database import Database

X = hashlib.sha256(IMAGE).digest()
CONTAINER = bytes(range(32))
MOST_STEPS = 400


def nothing(_: Board) -> None:
    """Let the device do everything right."""


def lose_activate(board: Board) -> None:
    board.ignored_activates = 1


def cut_power_instead(board: Board) -> None:
    board.restarts_instead_of_activate = 1


def cut_power_before_the_flag(board: Board) -> None:
    board.restarts_before_the_flag = 1


def give_up(board: Board) -> None:
    board.gives_up = True


async def cut_and_go_on(folder: Path, fault: Callable[[Board], None], steps: int) -> tuple[bool, Board, Any]:
    board = Board(an_rcp_info())
    fault(board)
    async with a_bench(folder, {"pump-1": board}, a_device(probe="job")) as bench:
        job = await bench.a_job(timestamp_ms=7, container_sha256=CONTAINER.hex())
        cut = CutShort(Attempt(bench.deps, bench.settings, bench.device, job).deliver(), steps)
        await cut
        await bench.store.run(lambda _: None)  # what was being written is written
    async with a_bench(folder, {"pump-1": board}, a_device(probe="job")) as bench:
        await go_on(bench)
        (job,) = await bench.store.run(Database.jobs)
        mark = (await bench.store.run(Database.devices))["pump-1"].mark
    assert (mark == RollbackMark(7, CONTAINER)) == (job.state is JobState.SUCCEEDED)
    return cut.was_cut, board, job


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "state", "code"),
    [
        (nothing, JobState.SUCCEEDED, ""),
        (lose_activate, JobState.SUCCEEDED, ""),
        (cut_power_instead, JobState.SUCCEEDED, ""),
        (cut_power_before_the_flag, JobState.SUCCEEDED, ""),
        (give_up, JobState.FAILED, "reverted"),
    ],
)
@timeless
async def test_an_update_cut_anywhere(
    tmp_path: Path, fault: Callable[[Board], None], state: JobState, code: str
) -> None:
    for steps in range(1, MOST_STEPS):
        was_cut, board, job = await cut_and_go_on(tmp_path / str(steps), fault, steps)
        where = f"cut at step {steps}"
        assert (job.state, job.code) == (state, code), where
        assert board.started == [X], where
        assert board.heard.count("data") <= 3 + 1, where
        if not was_cut:
            assert steps > 20  # it was cut in enough places
            return
    pytest.fail("it never came through")
