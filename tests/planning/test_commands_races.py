"""Wishes that come at the worst moment, or while the disk is full: nothing sticks, nothing doubles."""

import asyncio
import sqlite3
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from lab.commands_rig import a_rig
from lab.jobs import a_device, clock, some_settings, timeless, until
from structlog.testing import capture_logs

from gatewayd.config import Settings
from gatewayd.errors import DeviceError, HostError
from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.session import Failed
from gatewayd.store.database import Database


class Gate:
    """Holds the store's thread the first time it does `method` of the database, until `open`."""

    def __init__(self, patch: pytest.MonkeyPatch, method: str, state: JobState | None = None) -> None:
        self.reached = asyncio.Event()
        self._may_go = threading.Event()
        self._loop = asyncio.get_running_loop()
        do = getattr(Database, method)

        def held(*args: Any, **changes: Any) -> Any:
            if not self.reached.is_set() and (state is None or state in args):
                self._loop.call_soon_threadsafe(self.reached.set)
                assert self._may_go.wait(120)
            return do(*args, **changes)

        patch.setattr(Database, method, held)

    def open(self) -> None:
        self._may_go.set()


async def a_moment() -> None:
    """Let everybody run who can; no time passes."""
    for _ in range(5):
        await asyncio.sleep(0)


def another_baud(settings: Settings) -> Settings:
    (device,) = settings.devices
    link = device.link.model_copy(update={"baud": 9600})
    return some_settings(device.model_copy(update={"link": link}))


def fill_the_disk(patch: pytest.MonkeyPatch, method: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    patch.setattr(Database, method, fail)


@timeless
async def test_a_job_that_could_not_be_cancelled_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_rig(tmp_path) as rig:
        rig.board.is_unplugged = True
        await rig.publish()
        await until(lambda: bool(rig.bench.witness.moves))
        await until(lambda: not rig.board.is_open)
        with monkeypatch.context() as patch:
            fill_the_disk(patch, "end_job")
            with pytest.raises(HostError):
                await rig.commands.cancel("pump-1", "ann")
        rig.board.is_unplugged = False
        await rig.until_state(JobState.SUCCEEDED)


@timeless
async def test_halting_while_a_failure_is_written_down_begins_nothing_on_what_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs:
        async with a_rig(tmp_path) as rig:
            gate = Gate(monkeypatch, "move_job", JobState.FAILED)
            rig.board.says["offer"] = deque([Failed(DeviceError("flash is broken", code="flash_failed"))])
            await rig.publish()
            await gate.reached.wait()
            settings = another_baud(rig.bench.settings)
            await rig.reconciler.configure(settings)
            rig.scheduler.assign(settings, {})  # what it comes to when the store has time again
            await a_moment()
            gate.open()
            await asyncio.sleep(600)
            assert await rig.states() == ["4.3.2 failed"]
            (attempt,) = await rig.attempts()
            assert attempt.code == "flash_failed"
    assert not [line for line in logs if "defect" in line["event"]]


@timeless
async def test_two_who_halt_at_once_leave_one_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.publish()
        await rig.until_moving()
        gate = Gate(monkeypatch, "interrupt_job")
        first = asyncio.create_task(rig.scheduler.pause("pump-1", "paused by ann"))
        await gate.reached.wait()
        second = asyncio.create_task(rig.scheduler.pause("pump-1", "paused by bob"))
        await a_moment()
        gate.open()
        await asyncio.gather(first, second)
        job = await rig.last()
        assert (job.state, job.reason) == (JobState.QUEUED, "paused by ann")
        assert rig.bench.witness.moves[-1] == job


@timeless
async def test_a_paused_device_that_was_never_restarted_is_not_sent_the_image_again(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        rig.board.boot_s = 8.0
        rig.board.restarts_instead_of_activate = 1
        await rig.publish()
        await rig.until_state(JobState.ACTIVATING)
        await rig.commands.pause(["pump-1"], "ann")
        await asyncio.sleep(3600)
        assert rig.board.heard.count("offer") == 1
        opened = len(rig.board.opened_at)
        await asyncio.sleep(3600)
        assert len(rig.board.opened_at) == opened
        job = await rig.last()
        assert (job.state, job.code) == (JobState.QUEUED, "paused")
        await rig.commands.resume(["pump-1"], "ann")
        assert (await rig.until_state(JobState.SUCCEEDED)).failures == 0


@timeless
async def test_another_baud_is_tried_at_once(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device()) as rig:
        rig.board.is_silent = True
        await asyncio.sleep(3600)
        rig.board.is_silent = False
        assert rig.bench.witness.seen == []
        before = clock()
        await rig.reconciler.configure(another_baud(rig.bench.settings))
        await rig.reconciler.settled()
        await until(lambda: rig.bench.witness.seen == ["pump-1"])
        assert clock() - before < 5


@timeless
async def test_another_port_is_asked_once(tmp_path: Path) -> None:
    for name in ("port-a", "port-b"):
        (tmp_path / name).touch()
    async with a_rig(tmp_path, a_device(link={"uart": str(tmp_path / "port-a")})) as rig:
        await until(lambda: rig.bench.witness.seen == ["pump-1"])
        other = a_device(link={"uart": str(tmp_path / "port-b")})
        await rig.reconciler.configure(some_settings(other))
        await asyncio.sleep(60)
        assert len(rig.board.opened_at) == 2
