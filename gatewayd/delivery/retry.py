"""Decides how a job continues after a failed attempt. Pure."""

from dataclasses import dataclass

from gatewayd.back_off import back_off_s
from gatewayd.codes import AttemptEffect, Code, Contact, meaning
from gatewayd.errors import DeviceError, GatewaydError, LinkError, LinkLost
from gatewayd.jobs.model import Job
from gatewayd.jobs.transitions import JobState

LONGEST_WAIT_S = 300.0
# Before a missing port is tried again; its return ends the wait early.
LINE_WAIT_S = 15.0
# After ACTIVATE a silent device may be in a trial that it will revert, so it gets this much longer than the
# trial.
TRIAL_MARGIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """The state a job goes to, its count of fruitless attempts, and when to look at it again.

    `error` is what to record in place of the last one, where they mean something else together.
    """

    state: JobState
    failures: int
    delay_s: float
    error: GatewaydError | None = None


def after_failure(
    job: Job, error: GatewaydError, *, advanced: bool, attempts: int, grace: bool, chance: float
) -> Retry:
    """Decide.

    Args:
        job: as it stands now.
        error: what ended the attempt.
        advanced: the device has more bytes than ever before, durable ones where it tells which are; then the
            count restarts.
        attempts: fruitless attempts in a row that fail the job.
        grace: the trial after ACTIVATE may still be running, so silence means nothing yet.
        chance: 0 to 1; spreads the retries of devices that failed together.
    """
    what = meaning(error.code)
    waiting = JobState.ACTIVATING if job.state is JobState.ACTIVATING else JobState.QUEUED
    if what.attempt is AttemptEffect.MOOT and job.state is not JobState.ACTIVATING:
        return Retry(JobState.CANCELLED, job.failures, 0.0)
    # Nothing can replace an image that was activated: the job must end for a release published meanwhile.
    is_stuck = error.code == Code.TRIAL_OVERDUE and job.state is JobState.ACTIVATING
    if what.attempt in (AttemptEffect.FINAL, AttemptEffect.MOOT) or is_stuck:
        return Retry(JobState.FAILED, job.failures + 1, 0.0)
    # A port that keeps vanishing during transfers costs the device a flash write each time.
    has_vanished = isinstance(error, LinkLost) and job.state is JobState.TRANSFERRING and not advanced
    excused = what.attempt is AttemptEffect.WAITS and not has_vanished
    if excused or (grace and what.is_silence):
        return Retry(waiting, 0 if advanced else job.failures, LINE_WAIT_S * (0.5 + chance / 2))
    failures = 1 if advanced else job.failures + 1
    if failures >= attempts:
        return Retry(JobState.FAILED, failures, 0.0, _keeps_vanishing(failures) if has_vanished else None)
    # Without contact the device may still be running the new image.
    state = JobState.QUEUED if what.contact is Contact.MADE else waiting
    return Retry(state, failures, back_off_s(failures, chance, longest_s=LONGEST_WAIT_S))


def _keeps_vanishing(times: int) -> LinkError:
    return LinkError(
        f"attempt {times} without anything new stored: the port vanished during the transfer again",
        code="keeps_vanishing",
        hint="look at the cable, the hub, and the device's power supply",
    )


def trial_overdue(trial_s: float) -> DeviceError:
    """Return the error for a device that has been on trial for longer than a trial lasts."""
    return DeviceError(
        f"the device has said for more than {trial_s + TRIAL_MARGIN_S:.0f} s that an image is on trial, and a"
        f" trial lasts {trial_s:.0f} s",
        code="trial_overdue",
        hint="restart it, and find out why its firmware neither confirms the image nor goes back",
    )
