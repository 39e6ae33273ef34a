"""What becomes of a job whose attempt failed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.jobs import a_job

from gatewayd.codes import AttemptEffect, Code
from gatewayd.delivery.progress import ProgressMeter
from gatewayd.delivery.retry import LONGEST_WAIT_S, Retry, after_failure
from gatewayd.errors import DeviceError, FirmwareError, GatewaydError, HostError, LinkError, LinkLost
from gatewayd.jobs.transitions import TRANSITIONS, JobState

S = JobState


def decide(
    error: GatewaydError,
    *,
    state: JobState = S.TRANSFERRING,
    failures: int = 0,
    advanced: bool = False,
    grace: bool = False,
) -> Retry:
    job = a_job(state=state, failures=failures)
    return after_failure(job, error, advanced=advanced, attempts=3, grace=grace, chance=0.5)


def device_error(code: str) -> DeviceError:
    return DeviceError("it says no", code=code)


def test_attempts_are_used_up() -> None:
    assert decide(device_error("stalled")).state is S.QUEUED
    assert decide(device_error("stalled"), failures=1).failures == 2
    assert decide(device_error("stalled"), failures=2) == Retry(S.FAILED, 3, 0.0)


def test_durable_bytes_start_the_count_anew() -> None:
    retry = decide(device_error("stalled"), failures=2, advanced=True)
    assert (retry.state, retry.failures) == (S.QUEUED, 1)


@pytest.mark.parametrize("code", [one for one in Code if one.meaning.attempt is AttemptEffect.WAITS])
def test_what_passes_by_itself_uses_nothing_up(code: str) -> None:
    retry = decide(LinkError("gone", code=code), state=S.QUEUED, failures=2)
    assert (retry.state, retry.failures) == (S.QUEUED, 2)
    assert 7.5 <= retry.delay_s <= 15


def test_a_line_that_goes_in_mid_transfer_uses_up_an_attempt_unless_something_new_was_stored() -> None:
    gone = LinkLost("gone")
    assert decide(gone, failures=1).failures == 2
    assert decide(gone, failures=2, advanced=True) == Retry(S.QUEUED, 0, 11.25)
    assert decide(gone, state=S.ACTIVATING, failures=2).state is S.ACTIVATING
    last = decide(gone, failures=2)
    assert (last.state, last.failures) == (S.FAILED, 3)
    assert last.error is not None
    assert (last.error.code, "attempt 3" in last.error.message) == ("keeps_vanishing", True)


@pytest.mark.parametrize("code", [one for one in Code if one.meaning.attempt is AttemptEffect.FINAL])
def test_what_cannot_end_otherwise_is_not_tried_again(code: str) -> None:
    assert decide(device_error(code)).state is S.FAILED


def test_firmware_that_is_refused_is_not_tried_again() -> None:
    assert decide(FirmwareError("no", code="no_rom_for_slot")).state is S.FAILED


@pytest.mark.parametrize("code", ["not_newer", "incompatible"])
def test_an_update_that_turns_out_not_to_be_one_is_no_failure(code: str) -> None:
    error = FirmwareError("it runs something newer", code=code)
    assert decide(error, state=S.QUEUED).state is S.CANCELLED
    assert decide(error, state=S.ACTIVATING).state is S.FAILED


@pytest.mark.parametrize("code", [one for one in Code if one.meaning.is_silence])
def test_silence_after_activate_means_nothing_while_the_trial_may_run(code: str) -> None:
    error = LinkError("silence", code=code)
    retry = decide(error, state=S.ACTIVATING, failures=2, grace=True)
    assert (retry.state, retry.failures) == (S.ACTIVATING, 2)
    # Later it counts, and the device may still be running the new image.
    assert decide(error, state=S.ACTIVATING).state is S.ACTIVATING
    assert decide(error, state=S.ACTIVATING, failures=2).state is S.FAILED


def test_a_device_that_answered_after_activate_is_asked_from_the_start() -> None:
    assert decide(device_error("activate_ignored"), state=S.ACTIVATING).state is S.QUEUED


@given(
    state=st.sampled_from([S.QUEUED, S.TRANSFERRING, S.STAGED, S.ACTIVATING]),
    error=st.sampled_from([LinkError, DeviceError, HostError, FirmwareError]),
    code=st.sampled_from([*Code, "code_0399"]),
    failures=st.integers(0, 100),
    advanced=st.booleans(),
    attempts=st.integers(1, 100),
    grace=st.booleans(),
    chance=st.floats(0, 1),
)
def test_every_answer_is_one_that_the_job_can_take(
    state: JobState,
    error: type[GatewaydError],
    code: str,
    failures: int,
    advanced: bool,
    attempts: int,
    grace: bool,
    chance: float,
) -> None:
    job = a_job(state=state, failures=failures)
    retry = after_failure(
        job, error("", code=code), advanced=advanced, attempts=attempts, grace=grace, chance=chance
    )
    assert retry.state is state or retry.state in TRANSITIONS[state]
    assert 0 <= retry.delay_s <= LONGEST_WAIT_S
    if retry.state in (S.QUEUED, S.ACTIVATING):
        assert retry.delay_s > 0  # never a tight loop
        assert retry.failures < attempts or retry.failures == failures


def test_the_meter_forgets_what_was_long_ago_and_does_not_count_what_was_there() -> None:
    meter = ProgressMeter()
    meter.start(100.0, 5000)
    assert meter.rate(100.0, 5000) == 0
    assert meter.rate(101.0, 6000) == 1000
    assert [meter.rate(100.0 + second, 6000) for second in (3, 5, 7, 9)] == [333, 200, 0, 0]


def test_a_transfer_lasts_from_its_first_start_to_its_last_byte_whatever_resumes() -> None:
    meter = ProgressMeter()
    assert meter.seconds == 0.0
    meter.start(100.0, 0)
    meter.rate(104.0, 4000)
    meter.start(110.0, 4000)
    assert meter.rate(112.0, 6000) == 1000
    assert meter.seconds == 12.0
