"""What to do next with a device, from the job and from what it says of itself. Pure; protocol.md, section 8.

The awkward case is a device that restarted and runs the old image. That alone does not mean that the new one
was tried: ACTIVATE may have been lost and the power failed for another reason. The device's record of the
last image tried decides, never the boot id.
"""

from enum import StrEnum

from gatewayd.jobs.model import Job, JobState
from gatewayd.protocol.session import DeviceInfo, ImageState

# One forced second try covers a power cut between the device's record and its boot flag.
TRIES = 2


class Step(StrEnum):
    """What the worker does next."""

    TRANSFER = "transfer"
    SECOND_TRY = "second_try"
    AWAIT_RESTART = "await_restart"
    AWAIT_TRIAL_END = "await_trial_end"
    CONFIRM = "confirm"
    SUCCEED = "succeed"
    FAIL_REVERTED = "fail_reverted"
    FAIL_VERSION = "fail_version"


def next_step(job: Job, info: DeviceInfo) -> Step:
    """Decide the next step; a job that knows its image yet has `image_sha256`."""
    if not job.image_sha256:
        return Step.TRANSFER
    image = bytes.fromhex(job.image_sha256)
    if info.runs(image, job.version):
        return Step.CONFIRM if info.image_state is ImageState.ON_TRIAL else Step.SUCCEED
    if info.tried_sha256 != image:
        return Step.AWAIT_TRIAL_END if info.image_state is ImageState.ON_TRIAL else Step.TRANSFER
    return _tried(job, info)


def _tried(job: Job, info: DeviceInfo) -> Step:
    """The device recorded that it tries the image, and does not say that it runs it."""
    if info.image_state is ImageState.REVERTED:
        return Step.FAIL_REVERTED
    if job.state is JobState.ACTIVATING and info.boot_id == job.boot_id:
        return Step.AWAIT_RESTART
    if info.running_sha256 is None and info.version != job.from_version:
        return Step.FAIL_VERSION  # it runs what was sent, by all it tells, and calls it something else
    if info.image_state is ImageState.ON_TRIAL:
        return Step.AWAIT_TRIAL_END
    return Step.SECOND_TRY if info.tried_count < TRIES else Step.FAIL_REVERTED
