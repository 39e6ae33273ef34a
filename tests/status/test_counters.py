"""What is counted since the start."""

from lab.jobs import a_job

from gatewayd.jobs.model import AttemptRecord
from gatewayd.jobs.transitions import JobState
from gatewayd.status.counters import Counters, Transferred


def test_attempts_add_up() -> None:
    counters = Counters()
    for sent, repeated, resumes in ((1000, 0, 0), (500, 20, 1)):
        counters.attempt_ended(
            "pump-1", AttemptRecord("", bytes_sent=sent, bytes_repeated=repeated, resumes=resumes)
        )
    assert counters.figures().transferred == {"pump-1": Transferred(1500, 20, 1)}


def test_a_job_is_counted_once_and_not_if_it_had_ended_before_the_start() -> None:
    counters = Counters()
    old = a_job(id=1, state=JobState.SUCCEEDED)
    counters.jobs_known([old, a_job(id=2, state=JobState.QUEUED)])
    ended = a_job(id=2, state=JobState.FAILED, code="reverted")
    for _ in range(2):
        counters.jobs_known([old, ended])
    # The first is pruned from the history meanwhile.
    counters.jobs_known([ended, a_job(id=3, state=JobState.FAILED, code="reverted")])
    assert counters.figures().ended == {(old.device, "failed", "reverted"): 2}


def test_what_was_read_does_not_change_any_more() -> None:
    counters = Counters()
    counters.message("stored")
    before = counters.figures()
    counters.message("stored")
    counters.attempt_ended("pump-1", AttemptRecord("", bytes_sent=1))
    assert before.messages == {"stored": 1}
    assert before.transferred == {}
