"""The frames of docs/protocol.md, section 2: one frozen dataclass each.

`to_bytes` gives the content (type, session, body), which framing.py makes travel; `decode` reads one.
"""

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Self, TypeAlias

from gatewayd.protocol.rcp.base import HEADER_SIZE, Fixed, FrameType, Scope
from gatewayd.protocol.rcp.codes import FrameError, RcpCode
from gatewayd.protocol.rcp.tlv_frames import Confirm, Confirmed, Hello, Info, Offer

__all__ = [
    "FROM_GATEWAY",
    "Abort",
    "Aborted",
    "Accept",
    "Ack",
    "Activate",
    "Activated",
    "BaudOk",
    "Busy",
    "Confirm",
    "Confirmed",
    "Data",
    "Error",
    "Finish",
    "Finished",
    "Frame",
    "FrameError",
    "FrameType",
    "HaveIt",
    "Hello",
    "Info",
    "Nak",
    "NotNow",
    "Offer",
    "Refuse",
    "SetBaud",
    "decode",
]


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of the image from `offset` on; without bytes a probe."""

    type: ClassVar[FrameType] = FrameType.DATA
    scope: ClassVar[Scope] = Scope.OWN
    session: int
    offset: int
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        """Return type, session and body."""
        return bytes((self.type, self.session)) + self.offset.to_bytes(4, "little") + self.payload

    @classmethod
    def from_body(cls, session: int, body: bytes) -> Self:
        """Read a body. Raises FrameError."""
        if len(body) < 4:  # noqa: PLR2004 - the offset
            raise FrameError(f"DATA has {len(body)} bytes of body, expected at least 4")
        return cls(session, int.from_bytes(body[:4], "little"), body[4:])


@dataclass(frozen=True, slots=True)
class Accept(Fixed):
    """Send from `offset` on; `prefix_crc` covers what is before it."""

    type: ClassVar[FrameType] = FrameType.ACCEPT
    layout: ClassVar[Struct] = Struct("<III")
    session: int
    offset: int
    prefix_crc: int
    credit: int


@dataclass(frozen=True, slots=True)
class HaveIt(Fixed):
    """The offered image is the running one."""

    type: ClassVar[FrameType] = FrameType.HAVE_IT
    layout: ClassVar[Struct] = Struct("<32s")
    session: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Refuse(Fixed):
    """Not this image."""

    type: ClassVar[FrameType] = FrameType.REFUSE
    layout: ClassVar[Struct] = Struct("<H")
    session: int
    code: int


@dataclass(frozen=True, slots=True)
class Finish(Fixed):
    """That was all: verify it."""

    type: ClassVar[FrameType] = FrameType.FINISH
    session: int


@dataclass(frozen=True, slots=True)
class Finished(Fixed):
    """The slot's SHA-256, as read back."""

    type: ClassVar[FrameType] = FrameType.FINISHED
    layout: ClassVar[Struct] = Struct("<32s")
    session: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Activate(Fixed):
    """Restart into the staged image, if this is still that boot."""

    type: ClassVar[FrameType] = FrameType.ACTIVATE
    layout: ClassVar[Struct] = Struct("<32sIH")
    session: int
    sha256: bytes
    boot_id: int
    trial_s: int


@dataclass(frozen=True, slots=True)
class Activated(Fixed):
    """About to restart."""

    type: ClassVar[FrameType] = FrameType.ACTIVATED
    session: int


@dataclass(frozen=True, slots=True)
class Abort(Fixed):
    """End the session; `discard` 1 forgets what was received."""

    type: ClassVar[FrameType] = FrameType.ABORT
    scope: ClassVar[Scope] = Scope.ANY
    layout: ClassVar[Struct] = Struct("<B")
    session: int
    discard: int


@dataclass(frozen=True, slots=True)
class Aborted(Fixed):
    """The session is over."""

    type: ClassVar[FrameType] = FrameType.ABORTED
    scope: ClassVar[Scope] = Scope.ANY
    session: int


@dataclass(frozen=True, slots=True)
class Busy(Fixed):
    """The sender will be silent for this long."""

    type: ClassVar[FrameType] = FrameType.BUSY
    scope: ClassVar[Scope] = Scope.ANY
    layout: ClassVar[Struct] = Struct("<I")
    session: int
    ms: int


@dataclass(frozen=True, slots=True)
class NotNow(Fixed):
    """Come again later."""

    type: ClassVar[FrameType] = FrameType.NOT_NOW
    scope: ClassVar[Scope] = Scope.ANY
    layout: ClassVar[Struct] = Struct("<IB")
    session: int
    seconds: int
    reason: int


@dataclass(frozen=True, slots=True)
class SetBaud(Fixed):
    """Change the line's speed."""

    type: ClassVar[FrameType] = FrameType.SET_BAUD
    scope: ClassVar[Scope] = Scope.NONE
    layout: ClassVar[Struct] = Struct("<I")
    session: int
    baud: int


@dataclass(frozen=True, slots=True)
class BaudOk(Fixed):
    """Changing; `actual` is the speed that can be made."""

    type: ClassVar[FrameType] = FrameType.BAUD_OK
    scope: ClassVar[Scope] = Scope.NONE
    layout: ClassVar[Struct] = Struct("<II")
    session: int
    baud: int
    actual: int


@dataclass(frozen=True, slots=True)
class Error(Fixed):
    """Something was wrong with a frame, or with doing what it asked."""

    type: ClassVar[FrameType] = FrameType.ERROR
    scope: ClassVar[Scope] = Scope.ANY
    layout: ClassVar[Struct] = Struct("<H")
    session: int
    code: int


@dataclass(frozen=True, slots=True)
class Ack(Fixed):
    """Received in order; `credit` is how far may be sent."""

    type: ClassVar[FrameType] = FrameType.ACK
    layout: ClassVar[Struct] = Struct("<III")
    session: int
    received: int
    durable: int
    credit: int


@dataclass(frozen=True, slots=True)
class Nak(Fixed):
    """Go back to `received`."""

    type: ClassVar[FrameType] = FrameType.NAK
    layout: ClassVar[Struct] = Struct("<III")
    session: int
    received: int
    durable: int
    credit: int


Frame: TypeAlias = (
    Hello
    | Info
    | Offer
    | Accept
    | HaveIt
    | Refuse
    | Finish
    | Finished
    | Activate
    | Activated
    | Confirm
    | Confirmed
    | Abort
    | Aborted
    | Busy
    | NotNow
    | SetBaud
    | BaudOk
    | Error
    | Data
    | Ack
    | Nak
)
_CLASSES: dict[int, type[Frame]] = {
    cls.type: cls
    for cls in (
        Hello,
        Info,
        Offer,
        Accept,
        HaveIt,
        Refuse,
        Finish,
        Finished,
        Activate,
        Activated,
        Confirm,
        Confirmed,
        Abort,
        Aborted,
        Busy,
        NotNow,
        SetBaud,
        BaudOk,
        Error,
        Data,
        Ack,
        Nak,
    )
}
FROM_GATEWAY = frozenset(cls.type for cls in (Hello, Offer, Finish, Activate, Confirm, Abort, SetBaud, Data))


def decode(content: bytes) -> Frame:
    """Read type, session and body. Raises FrameError; `content[0]` and `content[1]` tell whose it was."""
    number, session = content[0], content[1]
    cls = _CLASSES.get(number)
    if cls is None:
        raise FrameError(f"frame type {number:#04x} is unknown", RcpCode.UNKNOWN_TYPE)
    if (cls.scope is Scope.NONE and session) or (cls.scope is Scope.OWN and not session):
        raise FrameError(f"{cls.type.name} carries session {session}, expected {cls.scope.value}")
    return cls.from_body(session, content[HEADER_SIZE:])
