"""The frames whose bodies are TLV: HELLO, INFO, OFFER, CONFIRM, CONFIRMED."""

from dataclasses import dataclass
from typing import ClassVar, Self, cast

from gatewayd.protocol.rcp.base import FrameType, Scope
from gatewayd.protocol.rcp.codes import FrameError
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.rcp.tlv import Tag, Value, pack, unpack
from gatewayd.protocol.session import ImageState

PROTOCOL_VERSION = 1
MIN_MAX_FRAME = 138  # what every device takes, and all a gateway sends before it knows better
FEATURE_SET_BAUD = 1
FEATURE_TRIAL_BOOT = 2
FEATURE_SHORT_DATA = 4


@dataclass(frozen=True, slots=True)
class Hello:
    """The request for a device's identity."""

    type: ClassVar[FrameType] = FrameType.HELLO
    scope: ClassVar[Scope] = Scope.NONE
    nonce: int
    gateway_id: str
    protocol_min: int = PROTOCOL_VERSION
    protocol_max: int = PROTOCOL_VERSION

    def to_bytes(self) -> bytes:
        """Return type, session and body."""
        return _header(self.type) + pack(
            {
                Tag.NONCE: self.nonce,
                Tag.PROTOCOL_MIN: self.protocol_min,
                Tag.PROTOCOL_MAX: self.protocol_max,
                Tag.GATEWAY_ID: self.gateway_id,
            }
        )

    @classmethod
    def from_body(cls, _session: int, body: bytes) -> Self:
        """Read a body. Raises FrameError."""
        tags = unpack(body, (Tag.NONCE, Tag.PROTOCOL_MIN, Tag.PROTOCOL_MAX, Tag.GATEWAY_ID))
        low, high = _versions(tags)
        return cls(cast("int", tags[Tag.NONCE]), cast("str", tags[Tag.GATEWAY_ID]), low, high)


@dataclass(frozen=True, slots=True)
class Info:
    """What a device says of itself."""

    type: ClassVar[FrameType] = FrameType.INFO
    scope: ClassVar[Scope] = Scope.NONE
    nonce: int
    device: RcpInfo
    protocol_min: int = PROTOCOL_VERSION
    protocol_max: int = PROTOCOL_VERSION

    def to_bytes(self) -> bytes:
        """Return type, session and body."""
        tags: dict[Tag, Value | None] = {
            tag: getattr(self.device, name) for tag, name in _INFO_FIELDS.items()
        }
        tags[Tag.NONCE] = self.nonce
        tags[Tag.PROTOCOL_MIN] = self.protocol_min
        tags[Tag.PROTOCOL_MAX] = self.protocol_max
        tags[Tag.FEATURES] = (
            FEATURE_SET_BAUD * self.device.can_set_baud
            + FEATURE_TRIAL_BOOT * self.device.can_revert
            + FEATURE_SHORT_DATA * self.device.can_short_data
        )
        if self.device.tried_sha256 is None:
            del tags[Tag.TRIED_COUNT]
        return _header(self.type) + pack(tags)

    @classmethod
    def from_body(cls, _session: int, body: bytes) -> Self:
        """Read a body. Raises FrameError."""
        tags = unpack(body, _INFO_REQUIRED, _INFO_OPTIONAL)
        low, high = _versions(tags)
        _check_info(tags)
        features = cast("int", tags[Tag.FEATURES])
        facts = {name: tags[tag] for tag, name in _INFO_FIELDS.items() if tag in tags}
        facts["image_state"] = ImageState(cast("int", tags[Tag.IMAGE_STATE]))
        facts["can_set_baud"] = bool(features & FEATURE_SET_BAUD)
        facts["can_revert"] = bool(features & FEATURE_TRIAL_BOOT)
        facts["can_short_data"] = bool(features & FEATURE_SHORT_DATA)
        device = RcpInfo(**facts)  # type: ignore[arg-type]  # unpack has checked each tag's type
        return cls(cast("int", tags[Tag.NONCE]), device, low, high)


@dataclass(frozen=True, slots=True)
class Offer:
    """Take this image?"""

    type: ClassVar[FrameType] = FrameType.OFFER
    scope: ClassVar[Scope] = Scope.OWN
    session: int
    sha256: bytes
    size: int
    version: str
    encoding: int = 0
    from_zero: bool = False
    second_try: bool = False

    def to_bytes(self) -> bytes:
        """Return type, session and body."""
        return _header(self.type, self.session) + pack(
            {
                Tag.IMAGE_SHA256: self.sha256,
                Tag.IMAGE_SIZE: self.size,
                Tag.IMAGE_VERSION: self.version,
                Tag.ENCODING: self.encoding,
                Tag.FROM_ZERO: self.from_zero,
                Tag.SECOND_TRY: self.second_try,
            }
        )

    @classmethod
    def from_body(cls, session: int, body: bytes) -> Self:
        """Read a body. Raises FrameError."""
        required = (Tag.IMAGE_SHA256, Tag.IMAGE_SIZE, Tag.IMAGE_VERSION, Tag.ENCODING)
        tags = unpack(body, required, (Tag.FROM_ZERO, Tag.SECOND_TRY))
        return cls(
            session,
            cast("bytes", tags[Tag.IMAGE_SHA256]),
            cast("int", tags[Tag.IMAGE_SIZE]),
            cast("str", tags[Tag.IMAGE_VERSION]),
            cast("int", tags[Tag.ENCODING]),
            Tag.FROM_ZERO in tags,
            Tag.SECOND_TRY in tags,
        )


@dataclass(frozen=True, slots=True)
class Confirm:
    """Keep the running image, if it is this one: `sha256` or `version`, the other is None."""

    type: ClassVar[FrameType] = FrameType.CONFIRM
    scope: ClassVar[Scope] = Scope.NONE
    nonce: int
    sha256: bytes | None = None
    version: str | None = None

    def to_bytes(self) -> bytes:
        """Return type, session and body."""
        tags = {Tag.NONCE: self.nonce, Tag.IMAGE_SHA256: self.sha256, Tag.IMAGE_VERSION: self.version}
        return _header(self.type) + pack(tags)

    @classmethod
    def from_body(cls, _session: int, body: bytes) -> Self:
        """Read a body. Raises FrameError."""
        tags = unpack(body, (Tag.NONCE,), (Tag.IMAGE_SHA256, Tag.IMAGE_VERSION))
        sha256 = cast("bytes | None", tags.get(Tag.IMAGE_SHA256))
        version = cast("str | None", tags.get(Tag.IMAGE_VERSION))
        if (sha256 is None) == (version is None):
            raise FrameError("CONFIRM names the image not once, by SHA-256 or by version")
        return cls(cast("int", tags[Tag.NONCE]), sha256, version)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The running image is confirmed."""

    type: ClassVar[FrameType] = FrameType.CONFIRMED
    scope: ClassVar[Scope] = Scope.NONE
    nonce: int

    def to_bytes(self) -> bytes:
        """Return type, session and body."""
        return _header(self.type) + pack({Tag.NONCE: self.nonce})

    @classmethod
    def from_body(cls, _session: int, body: bytes) -> Self:
        """Read a body. Raises FrameError."""
        return cls(cast("int", unpack(body, (Tag.NONCE,))[Tag.NONCE]))


_INFO_FIELDS = {
    Tag.APP_ID: "app_id",
    Tag.HARDWARE_ID: "hardware_id",
    Tag.DEVICE_ID: "device_id",
    Tag.VERSION: "version",
    Tag.BOOT_ID: "boot_id",
    Tag.IMAGE_STATE: "image_state",
    Tag.MAX_FRAME: "max_frame",
    Tag.WINDOW: "window",
    Tag.RX_RING: "rx_ring",
    Tag.SLOT_ADDRESS: "slot_address",
    Tag.SLOT_SIZE: "slot_size",
    Tag.ERASE_BLOCK: "erase_block",
    Tag.WRITE_UNIT: "write_unit",
    Tag.BOOT_TIME_S: "boot_time_s",
    Tag.RUNNING_SHA256: "running_sha256",
    Tag.TRIED_SHA256: "tried_sha256",
    Tag.TRIED_COUNT: "tried_count",
}
_INFO_OPTIONAL = (
    Tag.HARDWARE_ID,
    Tag.DEVICE_ID,
    Tag.VERSION,
    Tag.SLOT_ADDRESS,
    Tag.RUNNING_SHA256,
    Tag.TRIED_SHA256,
    Tag.TRIED_COUNT,
)
_INFO_REQUIRED = (
    Tag.NONCE,
    Tag.PROTOCOL_MIN,
    Tag.PROTOCOL_MAX,
    Tag.FEATURES,
    *(tag for tag in _INFO_FIELDS if tag not in _INFO_OPTIONAL),
)


def _header(type_: FrameType, session: int = 0) -> bytes:
    return bytes((type_, session))


def _versions(tags: dict[Tag, Value]) -> tuple[int, int]:
    low, high = cast("int", tags[Tag.PROTOCOL_MIN]), cast("int", tags[Tag.PROTOCOL_MAX])
    if low > high:
        raise FrameError(f"protocol versions from {low} to {high}")
    return low, high


def _check_info(tags: dict[Tag, Value]) -> None:
    for tag in (Tag.WINDOW, Tag.ERASE_BLOCK, Tag.WRITE_UNIT):
        if not tags[tag]:
            raise FrameError(f"INFO says {tag.name.lower()} is 0")
    if cast("int", tags[Tag.MAX_FRAME]) < MIN_MAX_FRAME:
        raise FrameError(f"INFO says max_frame is {tags[Tag.MAX_FRAME]!r}, expected at least {MIN_MAX_FRAME}")
    if tags[Tag.IMAGE_STATE] not in list(ImageState):
        raise FrameError(f"INFO says image_state is {tags[Tag.IMAGE_STATE]!r}, expected 0 to 2")
    if (Tag.TRIED_SHA256 in tags) != (Tag.TRIED_COUNT in tags):
        raise FrameError("INFO has only one of tried_sha256 and tried_count")
