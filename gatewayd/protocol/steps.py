"""What a device's answer means for an update: the input and the result of each protocol's `next_step`."""

from dataclasses import dataclass
from enum import StrEnum

from gatewayd.protocol.image import ImageId

# A boot's token, only compared for equality. None: the protocol has none, or nothing was stored.
BootId = int | str


class Step(StrEnum):
    """What comes next in an update."""

    TRANSFER = "transfer"
    SECOND_TRY = "second_try"
    RESTART = "restart"
    AWAIT_RESTART = "await_restart"
    AWAIT_TRIAL_END = "await_trial_end"
    CONFIRM = "confirm"
    SUCCEED = "succeed"
    FAIL_REVERTED = "fail_reverted"
    FAIL_REJECTED = "fail_rejected"
    FAIL_VERSION = "fail_version"


@dataclass(frozen=True, slots=True)
class Update:
    """What is stored of an update, to compare a device's answer with.

    Attributes:
        image: the image offered to the device; None before any offer.
        version: the version that the device must finally run.
        from_version: the version it ran at the offer.
        boot_id: the boot in which it was offered the image, or told to activate it.
        is_activating: whether the device may have been told to start the image.
        retry_reverted: whether a person has ordered one more try of an image that was given up.
        is_armed: whether the device has acknowledged `arm`: its next boot will try the image.
    """

    image: ImageId | None
    version: str
    from_version: str = ""
    boot_id: BootId | None = None
    is_activating: bool = False
    is_armed: bool = False
    retry_reverted: bool = False
