"""What a new INFO means for an update. Pure; docs/protocol.md, section 8.

The awkward case is a device that restarted and runs the old image. That alone does not mean that the new one
was tried: ACTIVATE may have been lost and the power failed for another reason. The device's record of the
last image tried decides, not the boot id.
"""

from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.session import ImageState
from gatewayd.protocol.steps import Step, Update

# One second try covers a power cut between writing the device's record and its boot flag.
TRIES = 2


def next_step(update: Update, info: RcpInfo) -> Step:
    """Decide the next step."""
    image, device = update.image, info.common
    if image is None:
        return Step.TRANSFER
    if device.runs((image,), update.version):
        return Step.CONFIRM if info.image_state is ImageState.ON_TRIAL else Step.SUCCEED
    if device.tried != image:
        return Step.AWAIT_TRIAL_END if info.image_state is ImageState.ON_TRIAL else Step.TRANSFER
    if update.retry_reverted and info.tried_count < TRIES:
        return Step.SECOND_TRY  # ordered, and not carried out yet
    return _tried(update, info)


def has_restarted(update: Update, info: RcpInfo) -> bool:
    """Whether this is another boot than the one that ACTIVATE was for."""
    return info.boot_id != update.boot_id


def _tried(update: Update, info: RcpInfo) -> Step:
    """Decide for a device that recorded a try of the image but does not report running it."""
    is_same_boot = update.is_activating and info.boot_id == update.boot_id
    if info.image_state is ImageState.REVERTED and not (is_same_boot and update.retry_reverted):
        return Step.FAIL_REVERTED
    if is_same_boot:
        return Step.AWAIT_RESTART
    if info.running_sha256 is None and info.version != update.from_version:
        return Step.FAIL_VERSION  # it seems to run what was sent, but reports another version
    if info.image_state is ImageState.ON_TRIAL:
        # What ran before was not on trial, or it would have refused the offer. So it cannot be now: the
        # bootloader went back, and the device's firmware still says "on trial".
        is_back = info.version is not None and info.version == update.from_version
        return Step.FAIL_REVERTED if is_back else Step.AWAIT_TRIAL_END
    return Step.SECOND_TRY if info.tried_count < TRIES else Step.FAIL_REVERTED
