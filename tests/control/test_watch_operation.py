"""A subscription to the board: what it says, and that it ends."""

from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lab.configuration import Lab
from lab.jobs import a_job

from gatewayd.control import operations
from gatewayd.control.messages import WatchResult
from gatewayd.control.operations import ControlContext, ControlOperations
from gatewayd.control.peer import Peer
from gatewayd.control.requests import Watch
from gatewayd.jobs.transitions import JobState
from gatewayd.planning.planner import StoreSnapshot
from gatewayd.status.board import StatusBoard
from gatewayd.status.feed import StatusFeed


class Bench:
    """The real operations over a real board; nothing else of the daemon."""

    def __init__(self, folder: Path) -> None:
        self.board = StatusBoard(lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.known = StoreSnapshot((), {}, {}, [], {})

        async def read() -> StoreSnapshot:
            return self.known

        reconciler = SimpleNamespace(settings=Lab(folder).settings(), known=read, latest=None)
        self.reconciler = reconciler
        parts = SimpleNamespace(reconciler=reconciler, board=self.board, feed=StatusFeed(self.board))
        self.name = reconciler.settings.devices[0].name
        self.operations = ControlOperations(cast("ControlContext", parts))

    @property
    def subscriptions(self) -> int:
        return len(self.board._subscriptions)  # noqa: SLF001 - what a leak would fill


@pytest.fixture(name="bench")
def _bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(operations, "WATCH_INTERVAL_S", 0.0)
    return Bench(tmp_path)


async def test_first_everything_then_what_changed(bench: Bench) -> None:
    answers = cast("Any", bench.operations.answer(Watch(), Peer()))
    async with aclosing(answers):
        first = await anext(answers)
        assert isinstance(first, WatchResult)
        assert [device.state for device in first.devices] == ["unknown"]
        bench.board.update(bench.name, state="idle")
        bench.board.update("gone-1", state="idle")
        bench.board.remove("gone-1")
        news = await anext(answers)
        assert [(device.name, device.state) for device in news.devices] == [(bench.name, "idle")]
        assert news.removed == ("gone-1",)
        assert bench.subscriptions == 1
    assert bench.subscriptions == 0


async def test_a_job_that_ends_is_its_devices_last_result_at_once(bench: Bench) -> None:
    """The planner hears of it a moment later, and then nothing more may change."""
    answers = cast("Any", bench.operations.answer(Watch(), Peer()))
    async with aclosing(answers):
        await anext(answers)
        bench.reconciler.latest = StoreSnapshot((), {}, {}, [], {})
        bench.known = StoreSnapshot((), {}, {}, [a_job(device=bench.name, state=JobState.SUCCEEDED)], {})
        bench.board.update(bench.name, state="succeeded", job=1)
        (device,) = (await anext(answers)).devices
        assert device.last_result.job == 1


async def test_who_leaves_between_two_answers_is_forgotten_at_once(bench: Bench) -> None:
    answers = cast("Any", bench.operations.answer(Watch(), Peer()))
    await anext(answers)
    await answers.aclose()
    assert bench.subscriptions == 0
