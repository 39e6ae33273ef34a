"""A disk that is so full that nothing can be recorded, the reserve included; in virtual time."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from lab.board import Board
from lab.jobs import IMAGE, a_device, an_rcp_info, clock, timeless, until
from lab.scheduler_rig import a_rig

from gatewayd.jobs.model import Job
from gatewayd.jobs.transitions import JobState
from gatewayd.store.database import Database
from gatewayd.store.disk import BALLAST_BYTES
from gatewayd.store.store import Store
from gatewayd.store.tables import Tables

X = hashlib.sha256(IMAGE).digest()


@contextmanager
def a_disk(is_full: Callable[[], bool]) -> Iterator[None]:
    """Refuse every transaction while `is_full`."""
    real = Tables.transaction  # every write goes through it

    @contextmanager
    def transaction(tables: Tables) -> Iterator[int]:
        if is_full():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        with real(tables) as seq:
            yield seq

    with mock.patch.object(Tables, "transaction", transaction):
        yield


@pytest.mark.parametrize("state", [JobState.TRANSFERRING, JobState.STAGED, JobState.ACTIVATING])
@timeless
async def test_what_cannot_be_recorded_waits_and_uses_up_nothing(tmp_path: Path, state: JobState) -> None:
    """Full from when the job is in `state`: it goes on as far as needs no record, and no further."""
    full: set[str] = set()
    board = Board(an_rcp_info())
    device = a_device(probe="job", attempts=1)
    with a_disk(lambda: bool(full)):
        async with a_rig(tmp_path, device, boards={device.name: board}) as rig:
            witness = rig.bench.witness
            heard = witness.job_moved

            def job_moved(job: Job) -> None:
                heard(job)
                if job.state is state and not board.started:
                    full.add("to the brim")

            with mock.patch.object(witness, "job_moved", job_moved):
                rig.assign(await rig.bench.a_job())
                await until(lambda: bool(full))
                await asyncio.sleep(3600)
            assert board.received == {X: len(IMAGE)}
            assert board.started == ([X] if state is JobState.ACTIVATING else [])
            assert (await rig.bench.job()).state is state
            full.clear()
            mended = clock()
            job = await rig.run_until(JobState.SUCCEEDED, limit_s=60)
            assert clock() - mended <= 60
            assert (job.failures, board.started) == (0, [X])


async def test_the_reserve_is_tried_before_anything_waits_and_made_again(tmp_path: Path) -> None:
    now = 1000.0
    async with Store(tmp_path, clock=lambda: now) as store:
        reserve = tmp_path / "ballast"
        with a_disk(reserve.exists):
            assert await store.run(lambda db: db.pause("pump-1", "root"))
        now += 59
        await store.run(Database.jobs)
        assert not reserve.exists()
        now += 1
        await store.run(Database.jobs)
        assert reserve.stat().st_size == BALLAST_BYTES
