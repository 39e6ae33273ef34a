"""What becomes of a job when an attempt failed. Pure."""

from dataclasses import dataclass

from gatewayd.errors import FirmwareError, GatewaydError, LinkError
from gatewayd.jobs.model import NEVER_AGAIN, Job, JobState
from gatewayd.protocol.session import SILENCE
from gatewayd.store.disk import DISK_TROUBLE

# The line is not there or not ours: nothing was tried, so nothing is used up. The port's return ends the wait
# early.
LINE_AWAY = frozenset({"link_missing", "link_lost", "link_busy", "link_denied", "link_error"}) | {
    "not_heard",
    "connect_failed",
    "adapter_missing",
    "adapter_blocked",
    "bluetooth_missing",
}
# This machine's trouble; the device had no part in it.
HOST_TROUBLE = DISK_TROUBLE | {"storage_failed", "database_damaged"}
# The device answers, and what it does now ends by itself.
ITS_OWN_TIME = frozenset({"on_trial"})
# Now that the device was asked it turns out to run something that this does not replace.
NOT_FOR_IT = frozenset({"not_newer", "incompatible"})
# Trying the same again cannot end otherwise.
FINAL = NEVER_AGAIN | {
    "wrong_app",
    "wrong_hardware",
    "no_trial_boot",
    "too_large",
    "protocol_version",
    "unknown_encoding",
    "unknown_critical_tag",
    "unknown_type",
    "malformed",
    "refused",
    "flash_failed",
    "spool_damaged",
}
LONGEST_WAIT_S = 300.0
LINE_WAIT_S = 15.0
# After ACTIVATE a silent device may be in a trial that it will give up: it is waited for that much longer
# than the trial.
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
        advanced: the device has more durable bytes than ever before; then the count starts anew.
        attempts: fruitless attempts in a row that fail the job.
        grace: the trial after ACTIVATE may still be running, so silence means nothing yet.
        chance: 0 to 1; spreads the retries of devices that failed together.
    """
    waiting = JobState.ACTIVATING if job.state is JobState.ACTIVATING else JobState.QUEUED
    if error.code in NOT_FOR_IT and job.state is not JobState.ACTIVATING:
        return Retry(JobState.CANCELLED, job.failures, 0.0)
    if error.code in FINAL or isinstance(error, FirmwareError):
        return Retry(JobState.FAILED, job.failures + 1, 0.0)
    # A line that goes in mid-transfer, time and again, costs the device a write of its flash each time.
    has_vanished = error.code == "link_lost" and job.state is JobState.TRANSFERRING and not advanced
    excused = error.code in LINE_AWAY | HOST_TROUBLE | ITS_OWN_TIME and not has_vanished
    if excused or (grace and error.code in SILENCE | {"wake_failed"}):
        return Retry(waiting, 0 if advanced else job.failures, LINE_WAIT_S * (0.5 + chance / 2))
    failures = 1 if advanced else job.failures + 1
    if failures >= attempts:
        return Retry(JobState.FAILED, failures, 0.0, _keeps_vanishing(failures) if has_vanished else None)
    # Nothing was heard of a device that may be running the new image: it still may.
    state = waiting if isinstance(error, LinkError) else JobState.QUEUED
    return Retry(state, failures, back_off_s(failures, chance))


def _keeps_vanishing(times: int) -> LinkError:
    return LinkError(
        f"attempt {times} without anything new stored: the port went away in mid-transfer again",
        code="keeps_vanishing",
        hint="look at the cable, the hub, and the device's power supply",
    )


def back_off_s(failures: int, chance: float) -> float:
    """Seconds after the n-th failure in a row (from 1): 1..2, 2..4, ... up to five minutes."""
    longest = min(LONGEST_WAIT_S, 2.0 ** min(failures, 16))
    return longest / 2 * (1 + chance)
