"""Changes of jobs that need not be on the disk, and are kept in memory until the job's next change that must.

A device that asks to be left alone for ever, or a port that fails in many ways, takes a job from `queued` to
`transferring` and back without end. What such a round leaves is written at first, and counts against the
device's limit (see limits.py); after a crash the job is `queued` again anyway. What a device may act on is
always written before: the image and the device that the job began with, and each state from `staged` on.
"""

from dataclasses import replace

from gatewayd.jobs.model import Job
from gatewayd.jobs.transitions import JobState
from gatewayd.store.limits import WriteLimits

_ROUND = (JobState.QUEUED, JobState.TRANSFERRING)


class HeldJobs:
    """Jobs as they are, by id, where that differs from what is written."""

    def __init__(self, limits: WriteLimits) -> None:
        self._limits = limits
        self._held: dict[int, Job] = {}

    def latest(self, written: Job) -> Job:
        """Return the job as it is."""
        return self._held.get(written.id, written)

    def all(self) -> list[Job]:
        """The jobs with something unwritten."""
        return list(self._held.values())

    def may_hold(self, written: Job, new: Job, *, is_attempt_told: bool) -> bool:
        """Whether the change may stay in memory; `is_attempt_told`: so is its attempt."""
        is_round = written.state is JobState.QUEUED and new.state in _ROUND
        if not is_round or _lasting(written) != _lasting(new):
            return False
        return (is_attempt_told and _is_told(written, new)) or not self._limits.take(new.device)

    def hold(self, job: Job) -> Job:
        """Keep it in memory."""
        self._held[job.id] = job
        return job

    def release(self, id_: int) -> None:
        """Forget it: it is being written, or gone."""
        self._held.pop(id_, None)


def _lasting(job: Job) -> Job:
    """Return the job without what an attempt that came to nothing may change."""
    return replace(
        job,
        state=JobState.QUEUED,
        updated_at="",
        updated_seq=0,
        attempt=0,
        failures=0,
        code="",
        reason="",
        boot_id=None,
        durable=0,
        resumes=0,
    )


def _is_told(written: Job, new: Job) -> bool:
    """Whether what is written tells as much: a transfer that begins again, or ends as the last one did."""
    # The boot tells the device that a job began with from others only where no id does.
    is_same_boot = new.boot_id == written.boot_id or new.device_id is not None
    if not is_same_boot or new.durable != written.durable:
        return False
    is_begin = new.state is JobState.TRANSFERRING
    return is_begin or (new.code, new.reason) == (written.code, written.reason)
