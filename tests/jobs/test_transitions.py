"""How a job may move: every pair of states, and what an illegal move leaves behind."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from lab.jobs import digest

from gatewayd.jobs.model import CreateJob, Job
from gatewayd.jobs.transitions import ENDED, IllegalTransitionError, JobState
from gatewayd.store.database import Database
from gatewayd.store.spool import Spool

S = JobState

# Written out a second time, as one reads architecture.md: the table in the code is compared with it.
LEGAL = {
    (S.OFFERED, S.QUEUED),
    (S.OFFERED, S.SUPERSEDED),
    (S.OFFERED, S.CANCELLED),
    (S.QUEUED, S.TRANSFERRING),
    (S.QUEUED, S.SUCCEEDED),  # found running, after a crash
    (S.QUEUED, S.FAILED),
    (S.QUEUED, S.SUPERSEDED),
    (S.QUEUED, S.CANCELLED),
    (S.TRANSFERRING, S.STAGED),
    (S.TRANSFERRING, S.SUCCEEDED),  # the device has it already
    (S.TRANSFERRING, S.QUEUED),
    (S.TRANSFERRING, S.FAILED),
    (S.TRANSFERRING, S.CANCELLED),
    (S.STAGED, S.ACTIVATING),
    (S.STAGED, S.QUEUED),
    (S.STAGED, S.FAILED),
    (S.STAGED, S.CANCELLED),
    (S.ACTIVATING, S.TRANSFERRING),  # ACTIVATE had no effect
    (S.ACTIVATING, S.QUEUED),
    (S.ACTIVATING, S.SUCCEEDED),
    (S.ACTIVATING, S.FAILED),
}
# The shortest way from a new job to each state.
WAYS: dict[JobState, tuple[JobState, ...]] = {
    S.OFFERED: (),
    S.QUEUED: (S.QUEUED,),
    S.TRANSFERRING: (S.QUEUED, S.TRANSFERRING),
    S.STAGED: (S.QUEUED, S.TRANSFERRING, S.STAGED),
    S.ACTIVATING: (S.QUEUED, S.TRANSFERRING, S.STAGED, S.ACTIVATING),
    S.SUCCEEDED: (S.QUEUED, S.SUCCEEDED),
    S.FAILED: (S.QUEUED, S.FAILED),
    S.SUPERSEDED: (S.SUPERSEDED,),
    S.CANCELLED: (S.CANCELLED,),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder = tmp_path_factory.mktemp("transitions")
    database = Database(Path(folder / "db"), Spool(folder / "spool"))
    yield database
    database.close()


def job_in(database: Database, state: JobState, device: str) -> Job:
    command = CreateJob(device, 1, digest("m"), "4.3.1", "4.3.2", S.OFFERED, None, "")
    job = database.create_job(command)
    assert job is not None
    for step in WAYS[state]:
        job = database.move_job(job.id, step)
    return job


@pytest.mark.parametrize(("old", "new"), list(product(S, S)))
def test_every_pair(database: Database, old: JobState, new: JobState) -> None:
    job = job_in(database, old, f"{old}-{new}")
    if (old, new) in LEGAL:
        assert database.move_job(job.id, new, reason="because").state is new
        assert database.job(job.id).reason == "because"
    else:
        with pytest.raises(IllegalTransitionError, match=f"from {old} to {new}"):
            database.move_job(job.id, new, reason="because")
        assert database.job(job.id) == job


def test_what_has_ended_stays_as_it_is() -> None:
    assert {S.SUCCEEDED, S.FAILED, S.SUPERSEDED, S.CANCELLED} == ENDED


@pytest.mark.parametrize("state", [S.OFFERED, S.STAGED, S.FAILED])
def test_success_follows_the_table_too_and_leaves_the_mark(database: Database, state: JobState) -> None:
    job = job_in(database, state, f"success-{state}")
    with pytest.raises(IllegalTransitionError):
        database.succeed(job.id, None, code="", reason="")
    assert database.job(job.id) == job
