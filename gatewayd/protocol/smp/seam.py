"""What the common interface will hold; this file goes when it does."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from gatewayd.protocol import session
from gatewayd.protocol.session import ImageState

LONGEST_BOOT_S = 300


@dataclass(frozen=True, slots=True)
class ImageId:
    """A digest and what it was made by."""

    algorithm: str
    digest: bytes

    @classmethod
    def of_file(cls, sha256: bytes) -> Self:
        """Name an image by the SHA-256 of its file."""
        return cls("sha256", sha256)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest.hex()}"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device says of itself."""

    app_id: str | None
    image_state: ImageState = ImageState.CONFIRMED
    boot_id: int | str | None = None
    hardware_id: str | None = None
    device_id: str | None = None
    version: str | None = None
    running: ImageId | None = None
    tried: ImageId | None = None
    slot_address: int | None = None
    slot_size: int | None = None
    can_revert: bool = False
    boot_limit_s: int = LONGEST_BOOT_S


@dataclass(frozen=True, slots=True)
class Image:
    """What is transferred."""

    content: bytes | memoryview
    sha256: bytes
    version: str
    second_try: bool = False
    own_id: ImageId | None = None

    @property
    def id(self) -> ImageId:
        """What the device calls it."""
        return self.own_id or ImageId.of_file(self.sha256)


@dataclass(frozen=True, slots=True)
class Identified:
    """Outcome of `identify`."""

    info: DeviceInfo


@dataclass(frozen=True, slots=True)
class Staged:
    """Outcome of `transfer`."""

    info: DeviceInfo


@dataclass(frozen=True, slots=True)
class Armed:
    """Outcome of `arm`."""


@dataclass(frozen=True, slots=True)
class Activated:
    """Outcome of `activate`."""

    acknowledged: bool
    quiet_s: float = 0.0


Outcome = (
    Identified | Staged | session.AlreadyRunning | Armed | Activated | session.Confirmed | session.Failed
)
Event = Outcome | session.TransferStarted | session.Progress | session.Console
OUTCOMES = (
    Identified,
    Staged,
    session.AlreadyRunning,
    Armed,
    Activated,
    session.Confirmed,
    session.Failed,
)


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
    """What is stored of an update."""

    image: ImageId | None
    version: str
    from_version: str = ""
    boot_id: int | str | None = None
    is_activating: bool = False
    is_armed: bool = False
