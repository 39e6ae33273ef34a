"""Every row of protocol.md section 8, "what a new INFO means", and what lies between the rows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.jobs import RUNNING, a_job, an_rcp_info

from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.rcp.activation import next_step
from gatewayd.protocol.session import ImageState
from gatewayd.protocol.steps import Step

X = b"\x22" * 32
OTHER = b"\x33" * 32
B = 7  # the boot id that ACTIVATE carried
JOB = a_job(state=JobState.ACTIVATING, image_sha256=X.hex(), boot_id=B, version="4.3.2", from_version="4.3.1")
CONFIRMED, ON_TRIAL, REVERTED = ImageState.CONFIRMED, ImageState.ON_TRIAL, ImageState.REVERTED


def says(**values: Any) -> dict[str, Any]:
    return values


def old(**values: Any) -> dict[str, Any]:
    return {"running_sha256": RUNNING, "version": "4.3.1"} | values


def tried(count: int, image: bytes = X) -> dict[str, Any]:
    return {"tried_sha256": image, "tried_count": count}


TABLE = [
    ("runs X, on trial", says(boot_id=8, running_sha256=X, image_state=ON_TRIAL), Step.CONFIRM),
    (
        "runs X, on trial, after more restarts",
        says(boot_id=9, running_sha256=X, image_state=ON_TRIAL),
        Step.CONFIRM,
    ),
    ("runs X, confirmed", says(boot_id=8, running_sha256=X), Step.SUCCEED),
    ("runs X under another version", says(boot_id=8, running_sha256=X, version="9.9.9"), Step.SUCCEED),
    ("boot id B: ACTIVATE has no effect yet", old(boot_id=B), Step.TRANSFER),
    ("boot id B, and it is about to restart", old(boot_id=B, **tried(1)), Step.AWAIT_RESTART),
    ("reverted, tried X", old(boot_id=8, image_state=REVERTED, **tried(1)), Step.FAIL_REVERTED),
    ("cut between record and flag", old(boot_id=8, **tried(1)), Step.SECOND_TRY),
    ("tried enough", old(boot_id=8, **tried(2)), Step.FAIL_REVERTED),
    ("tried more than enough", old(boot_id=8, **tried(3)), Step.FAIL_REVERTED),
    ("tried nothing", old(boot_id=8), Step.TRANSFER),
    ("tried something else", old(boot_id=8, **tried(1, OTHER)), Step.TRANSFER),
    ("gave something else up", old(boot_id=8, image_state=REVERTED, **tried(2, OTHER)), Step.TRANSFER),
    (
        "something else is on trial",
        says(running_sha256=OTHER, image_state=ON_TRIAL, **tried(1, OTHER)),
        Step.AWAIT_TRIAL_END,
    ),
    # Devices that know no SHA-256 of what they run.
    (
        "version of X, on trial",
        says(running_sha256=None, version="4.3.2", image_state=ON_TRIAL),
        Step.CONFIRM,
    ),
    ("version of X, confirmed", says(running_sha256=None, version="4.3.2"), Step.SUCCEED),
    (
        "another version than before",
        says(boot_id=8, running_sha256=None, version="4.3.9", **tried(1)),
        Step.FAIL_VERSION,
    ),
    (
        "the version before",
        says(boot_id=8, running_sha256=None, version="4.3.1", **tried(1)),
        Step.SECOND_TRY,
    ),
    (
        "the version before, wrongly on trial",
        says(boot_id=8, running_sha256=None, version="4.3.1", image_state=ON_TRIAL, **tried(1)),
        Step.FAIL_REVERTED,
    ),
    (
        "what ran before, wrongly on trial",
        old(boot_id=8, image_state=ON_TRIAL, **tried(1)),
        Step.FAIL_REVERTED,
    ),
    (
        "something else is on trial since",
        says(boot_id=8, running_sha256=OTHER, version="4.3.9", image_state=ON_TRIAL, **tried(1)),
        Step.AWAIT_TRIAL_END,
    ),
    (
        "reverted beats the version",
        says(boot_id=8, running_sha256=None, version="4.3.9", image_state=REVERTED, **tried(1)),
        Step.FAIL_REVERTED,
    ),
    # The SHA-256 counts, where there is one.
    (
        "the right version of other bytes",
        says(boot_id=8, running_sha256=OTHER, version="4.3.2"),
        Step.TRANSFER,
    ),
]


@pytest.mark.parametrize(("row", "info", "step"), TABLE, ids=[row for row, _, _ in TABLE])
def test_row(row: str, info: dict[str, Any], step: Step) -> None:
    assert next_step(JOB.update, an_rcp_info(**info)) is step, row


def test_a_job_that_waits_again_does_not_wait_for_a_restart() -> None:
    job = a_job(state=JobState.QUEUED, image_sha256=X.hex(), boot_id=B)
    assert next_step(job.update, an_rcp_info(boot_id=B, **tried(1))) is Step.SECOND_TRY


def test_a_job_that_has_offered_nothing_transfers_whatever_the_device_says() -> None:
    assert next_step(a_job().update, an_rcp_info(image_state=REVERTED, **tried(2))) is Step.TRANSFER


@given(
    running=st.sampled_from([X, OTHER, RUNNING, None]),
    version=st.sampled_from(["4.3.1", "4.3.2", "4.3.9", None]),
    state=st.sampled_from(ImageState),
    trial=st.one_of(st.just((None, 0)), st.tuples(st.sampled_from([X, OTHER]), st.integers(1, 255))),
    boot_id=st.sampled_from([B, 8]),
    job_state=st.sampled_from([JobState.QUEUED, JobState.ACTIVATING]),
)
def test_success_only_for_what_runs_and_never_a_third_try(
    running: bytes | None,
    version: str | None,
    state: ImageState,
    trial: tuple[bytes | None, int],
    boot_id: int,
    job_state: JobState,
) -> None:
    info = an_rcp_info(
        running_sha256=running,
        version=version,
        image_state=state,
        tried_sha256=trial[0],
        tried_count=trial[1],
        boot_id=boot_id,
    )
    step = next_step(a_job(state=job_state, image_sha256=X.hex(), boot_id=B).update, info)
    runs = running == X or (running is None and version == "4.3.2")
    assert (step in (Step.SUCCEED, Step.CONFIRM)) == runs
    if step is Step.SUCCEED:
        assert state is not ON_TRIAL
    if step in (Step.TRANSFER, Step.SECOND_TRY):
        assert state is not ON_TRIAL
        assert not (trial[0] == X and (trial[1] > 1 or state is REVERTED))
