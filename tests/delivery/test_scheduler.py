"""Who is served when: hours of trouble with devices in memory, in virtual time."""

import asyncio
import hashlib
import itertools
import sqlite3
from collections import deque
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from lab.board import Board
from lab.jobs import IMAGE, VirtualLoop, a_device, an_rcp_info, clock, some_settings, timeless, until
from lab.scheduler_rig import a_rig
from structlog.testing import capture_logs

from gatewayd.config import Device
from gatewayd.delivery.pump import SEND_LIMIT_S
from gatewayd.delivery.retry import TRIAL_MARGIN_S
from gatewayd.jobs.model import Job
from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.session import Deferred
from gatewayd.store.database import Database

X = hashlib.sha256(IMAGE).digest()


def lazy(**values: Any) -> Device:
    """Describe a device that is only asked for a job."""
    return a_device(probe="job", **values)


@timeless
async def test_a_job_is_done_and_then_there_is_peace(tmp_path: Path) -> None:
    async with a_rig(tmp_path, a_device()) as rig:
        rig.assign(await rig.bench.a_job())
        assert (await rig.run_until(JobState.SUCCEEDED)).attempt == 1
        rig.assign()
        await asyncio.sleep(7200)
        assert len(rig.board.opened_at) == 1
        assert rig.ends == 1


@timeless
async def test_a_line_that_is_away_uses_up_no_attempts_and_its_return_is_noticed(tmp_path: Path) -> None:
    """A node without hardware behind it is tried again and again."""
    port = tmp_path / "port"
    port.touch()
    async with a_rig(tmp_path, lazy(attempts=2, link={"uart": str(port)})) as rig:
        rig.board.is_unplugged = True
        rig.assign(await rig.bench.a_job())
        await asyncio.sleep(300)
        waits = [later - earlier for earlier, later in itertools.pairwise(rig.board.opened_at)]
        assert len(waits) > 10
        assert all(7 <= wait <= 15.1 for wait in waits)
        job = await rig.bench.job()
        assert (job.state, job.failures, job.code) == (JobState.QUEUED, 0, "link_missing")
        rig.board.is_unplugged = False
        assert (await rig.run_until(JobState.SUCCEEDED, limit_s=20)).failures == 0


@timeless
async def test_a_port_that_is_not_there_is_written_down_once_and_its_return_is_noticed(
    tmp_path: Path,
) -> None:
    port = tmp_path / "port"
    async with a_rig(tmp_path, lazy(attempts=2, link={"uart": str(port)})) as rig:
        rig.board.is_unplugged = True
        rig.assign(await rig.bench.a_job())
        await asyncio.sleep(60)
        written = await rig.bench.store.run(lambda db: db.commits)
        await asyncio.sleep(3600)
        assert await rig.bench.store.run(lambda db: db.commits) == written
        assert (await rig.bench.job()).code == "link_missing"
        rig.board.is_unplugged = False
        port.touch()
        assert (await rig.run_until(JobState.SUCCEEDED, limit_s=8)).failures == 0


@timeless
async def test_a_line_that_stays_away_is_written_down_and_told_once(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with a_rig(tmp_path, lazy()) as rig:
            rig.board.is_unplugged = True
            rig.assign(await rig.bench.a_job())
            await until(lambda: rig.ends == 1)
            once = await rig.bench.job()
            await asyncio.sleep(3600)
            assert await rig.bench.job() == once, "not even when it was changed has changed"
            (attempt,) = await rig.bench.store.run(lambda db: db.attempts(1))
            assert attempt.times == rig.ends > 200
    told = [line for line in logs if line["event"] == "attempt failed"]
    assert [line["log_level"] for line in told].count("warning") == 1


@timeless
async def test_a_port_that_comes_back_in_mid_transfer_is_used_at_once(tmp_path: Path) -> None:
    port = tmp_path / "port"
    port.touch()
    async with a_rig(tmp_path, lazy(link={"uart": str(port)})) as rig:
        rig.board.pace_s = 1.0
        rig.assign(await rig.bench.a_job())
        await until(lambda: bool(rig.bench.witness.received))
        rig.board.is_unplugged = True
        port.rename(tmp_path / "away")
        await until(lambda: not rig.board.is_open)
        await asyncio.sleep(2)
        rig.board.is_unplugged = False
        port.touch()
        back = clock()
        await until(lambda: rig.board.is_open)
        assert clock() - back <= 1.2
        job = await rig.run_until(JobState.SUCCEEDED)
        assert (job.failures, job.resumes) == (0, 1)


@timeless
async def test_a_port_that_was_replaced_under_an_attempt_is_noticed_when_that_has_ended(
    tmp_path: Path,
) -> None:
    port = tmp_path / "port"
    port.touch()
    async with a_rig(tmp_path, lazy(link={"uart": str(port)})) as rig:
        rig.board.pace_s = 4.0
        rig.assign(await rig.bench.a_job())
        await until(lambda: bool(rig.bench.witness.received))
        rig.board.is_unplugged = True
        port.rename(tmp_path / "away")
        port.touch()
        await until(lambda: not rig.board.is_open)
        ended = clock()
        rig.board.is_unplugged = False
        await until(lambda: rig.board.is_open)
        assert clock() - ended <= 1.2


@timeless
async def test_silence_uses_up_the_attempts_with_growing_waits_and_then_the_device_is_still_looked_for(
    tmp_path: Path,
) -> None:
    async with a_rig(tmp_path, a_device(attempts=3)) as rig:
        rig.board.is_silent = True
        rig.assign(await rig.bench.a_job())
        job = await rig.run_until(JobState.FAILED)
        assert (job.code, job.failures) == ("no_answer", 3)
        first, second, third = rig.board.opened_at
        assert (round(second - first, 3), round(third - second, 3)) == (5 + 1.5, 5 + 3)
        rig.assign()
        await asyncio.sleep(7200)
        assert len(rig.board.opened_at) > 20
        assert set(rig.unreachable) == {"pump-1: no_answer"}
        rig.board.is_silent = False
        await until(lambda: bool(rig.bench.witness.seen), limit_s=310)
        calls = len(rig.board.opened_at)
        await asyncio.sleep(7200)
        assert len(rig.board.opened_at) == calls


@timeless
async def test_a_device_that_is_only_asked_for_jobs_is_not_looked_for(tmp_path: Path) -> None:
    async with a_rig(tmp_path, lazy(attempts=1)) as rig:
        rig.board.is_silent = True
        rig.assign(await rig.bench.a_job())
        await rig.run_until(JobState.FAILED)
        rig.assign()
        await asyncio.sleep(7200)
        assert len(rig.board.opened_at) == 1


@timeless
async def test_devices_are_asked_at_the_start_unless_they_are_not_to_be(tmp_path: Path) -> None:
    devices = a_device(), lazy(name="tag-1"), a_device("pump-2")
    async with a_rig(tmp_path, *devices) as rig:
        rig.bench.boards["pump-2"].says["hello"] = deque([Deferred(60, 3)])
        rig.assign()
        await until(lambda: rig.ends == 2)
        assert rig.bench.witness.seen == ["pump-1"]
        await asyncio.sleep(59)
        assert rig.bench.witness.seen == ["pump-1"]
        await asyncio.sleep(3)
        assert rig.bench.witness.seen == ["pump-1", "pump-2"]


@timeless
async def test_cancelling_ends_the_attempt_and_the_device_keeps_what_it_has(tmp_path: Path) -> None:
    async with a_rig(tmp_path, lazy()) as rig:
        rig.board.pace_s = 1.0
        job = await rig.bench.a_job()
        rig.assign(job)
        await until(lambda: bool(rig.bench.witness.received))
        await rig.scheduler.cancel(job.id)
        assert not rig.board.is_open
        await asyncio.sleep(600)
        assert len(rig.board.opened_at) == 1
        rig.assign(await rig.bench.job())  # it was not ended in the store: it goes on from where it was
        job = await rig.run_until(JobState.SUCCEEDED)
        assert (job.resumes, rig.board.heard.count("data")) == (1, 3)


@timeless
async def test_what_runs_is_not_disturbed_by_assigning(tmp_path: Path) -> None:
    async with a_rig(tmp_path, lazy()) as rig:
        rig.board.pace_s = 1.0
        job = await rig.bench.a_job()
        rig.assign(job)
        await until(lambda: bool(rig.bench.witness.received))
        rig.assign(job)
        rig.assign()
        await rig.run_until(JobState.SUCCEEDED)
        assert len(rig.board.opened_at) == 1


@timeless
async def test_what_runs_can_be_cancelled_whatever_was_assigned_meanwhile(tmp_path: Path) -> None:
    async with a_rig(tmp_path, lazy()) as rig:
        rig.board.pace_s = 1.0
        job = await rig.bench.a_job()
        rig.assign(job)
        await until(lambda: bool(rig.bench.witness.received))
        rig.assign()
        await rig.scheduler.cancel(job.id)
        assert not rig.board.is_open


@timeless
async def test_one_device_costs_the_others_nothing(tmp_path: Path) -> None:
    names = ["silent", "ghost", "good"]
    devices = [lazy(name=name) for name in names]
    boards = {name: Board(an_rcp_info()) for name in ("silent", "good")}  # "ghost" is a KeyError: a defect
    boards["silent"].is_silent = True
    async with a_rig(tmp_path, *devices, boards=boards) as rig:
        jobs = [await rig.bench.a_job(device=name) for name in names]
        started = clock()
        rig.assign(*jobs)
        await until(lambda: boards["good"].started == [X], limit_s=2)
        boards["ghost"] = Board(an_rcp_info())
        await until(lambda: boards["ghost"].started == [X])
        assert 100 < clock() - started <= 300  # not hammered, and not given up
        assert boards["silent"].started == []


@timeless
async def test_devices_with_the_same_firmware_share_it_in_memory(tmp_path: Path) -> None:
    devices = [lazy(name=f"pump-{number}") for number in (1, 2, 3)]
    async with a_rig(tmp_path, *devices) as rig:
        for board in rig.bench.boards.values():
            board.pace_s = 1.0
        jobs = [await rig.bench.a_job(device=device.name) for device in devices]
        with mock.patch.object(rig.bench.store.spool, "read", wraps=rig.bench.store.spool.read) as read:
            rig.assign(*jobs)
            await until(lambda: rig.bench.witness.states.count("succeeded") == 3)
            assert read.call_count == 1


@timeless
async def test_after_activate_silence_is_waited_out_for_as_long_as_the_trial_may_take(tmp_path: Path) -> None:
    async with a_rig(tmp_path, lazy(attempts=2, trial_s=600)) as rig:
        rig.board.boot_s = 550
        rig.assign(await rig.bench.a_job())
        job = await rig.run_until(JobState.SUCCEEDED)
        assert job.failures == 0
        assert rig.board.started == [X]


@timeless
async def test_after_the_trial_silence_counts(tmp_path: Path) -> None:
    async with a_rig(tmp_path, lazy(attempts=2, trial_s=600)) as rig:
        rig.board.boot_s = 1e6
        rig.assign(await rig.bench.a_job())
        await rig.run_until(JobState.ACTIVATING)
        activated = clock()
        job = await rig.run_until(JobState.FAILED)
        assert (job.code, job.failures) == ("no_answer", 2)
        assert clock() - activated > 600 + TRIAL_MARGIN_S


@timeless
async def test_an_attempt_whose_end_could_not_be_written_down_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [True]
    move_job = Database.move_job

    def move_while_full(database: Database, id_: int, state: JobState, **changes: Any) -> Job:
        if full and state in (JobState.STAGED, JobState.QUEUED):
            raise sqlite3.OperationalError("database or disk is full")
        return move_job(database, id_, state, **changes)

    monkeypatch.setattr(Database, "move_job", move_while_full)
    async with a_rig(tmp_path, lazy()) as rig:
        rig.assign(await rig.bench.a_job())
        await until(lambda: rig.ends == 1)
        job = await rig.bench.job()
        assert job.state is JobState.TRANSFERRING
        rig.assign(job)
        await asyncio.sleep(60)
        full.clear()
        assert (await rig.run_until(JobState.SUCCEEDED)).failures == 0


@timeless
async def test_a_probe_that_could_not_be_written_down_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_rig(tmp_path, a_device()) as rig:
        with monkeypatch.context() as patch:
            patch.setattr(Database, "save_contact", mock.Mock(side_effect=sqlite3.OperationalError("full")))
            rig.assign()
            await until(lambda: rig.ends == 1)
        assert rig.bench.witness.seen == []
        await until(lambda: rig.bench.witness.seen == ["pump-1"], limit_s=60)


@timeless
async def test_a_device_that_wants_to_be_left_alone_is(tmp_path: Path) -> None:
    async with a_rig(tmp_path, lazy(attempts=1)) as rig:
        rig.board.says["offer"] = deque([Deferred(100, 2), Deferred(200, 2)])
        rig.assign(await rig.bench.a_job())
        assert (await rig.run_until(JobState.SUCCEEDED)).failures == 0
        first, second, third = rig.board.opened_at
        assert second - first >= 100
        assert third - second >= 200


@timeless
async def test_a_device_that_is_configured_no_more_is_left_alone(tmp_path: Path) -> None:
    async with a_rig(tmp_path, lazy()) as rig:
        rig.board.pace_s = 1.0
        rig.assign(await rig.bench.a_job())
        await until(lambda: bool(rig.bench.witness.received))
        rig.scheduler.assign(some_settings(), {})
        await asyncio.sleep(0.1)
        assert not rig.board.is_open
        await asyncio.sleep(600)
        assert len(rig.board.opened_at) == 1


@timeless
async def test_what_waits_for_a_person_is_not_begun(tmp_path: Path) -> None:
    async with a_rig(tmp_path, lazy()) as rig:
        rig.assign(await rig.bench.a_job(state=JobState.OFFERED))
        await asyncio.sleep(600)
        assert rig.board.opened_at == []


@timeless
async def test_an_update_that_turns_out_not_to_be_one_is_cancelled(tmp_path: Path) -> None:
    boards = {"pump-1": Board(an_rcp_info(version="4.3.9"))}
    async with a_rig(tmp_path, lazy(), boards=boards) as rig:
        rig.assign(await rig.bench.a_job())
        assert (await rig.run_until(JobState.CANCELLED)).code == "not_newer"
        assert rig.board.heard == ["hello"]


@timeless
async def test_a_transfer_that_did_not_act_when_it_should_have_is_found(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with a_rig(tmp_path, lazy()) as rig:
        rig.board.pace_s = 1.0
        assert rig.scheduler.most_overdue() == (0.0, "")
        rig.assign(await rig.bench.a_job())
        await until(lambda: bool(rig.bench.witness.received))
        assert rig.scheduler.most_overdue() == (0.0, "pump-1")
        loop.now += SEND_LIMIT_S + 100  # and nobody else has had a turn since
        overdue_s, name = rig.scheduler.most_overdue()
        assert (round(overdue_s), name) == (100, "pump-1")
