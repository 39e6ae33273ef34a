"""What a device's answer means for an update: the question, which each protocol answers for itself."""

from dataclasses import dataclass
from enum import StrEnum

from gatewayd.protocol.image import ImageId

# A boot's token: compared for equality and never read. None: the protocol has none, or nothing was stored.
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
    FAIL_VERSION = "fail_version"


@dataclass(frozen=True, slots=True)
class Update:
    """What is stored of an update, to compare a device's answer with.

    Attributes:
        image: what the device was offered; None until it was offered anything.
        version: what the device has to run in the end.
        from_version: what it ran when it was offered the image.
        boot_id: of the boot in which it was offered the image, or told to activate it.
        is_activating: the device may have been told to start the image.
        is_armed: the device has acknowledged `arm`: its next boot is one into the image.
    """

    image: ImageId | None
    version: str
    from_version: str = ""
    boot_id: BootId | None = None
    is_activating: bool = False
    is_armed: bool = False
