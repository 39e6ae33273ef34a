"""What all frames share: type numbers, which session numbers they may carry, and bodies of fixed layout."""

from enum import Enum, IntEnum
from struct import Struct
from typing import ClassVar, Self

from gatewayd.protocol.rcp.codes import FrameError

HEADER_SIZE = 2  # type, session


class FrameType(IntEnum):
    """The first byte of a frame."""

    HELLO = 0x01
    INFO = 0x02
    OFFER = 0x03
    ACCEPT = 0x04
    HAVE_IT = 0x05
    REFUSE = 0x06
    FINISH = 0x07
    FINISHED = 0x08
    ACTIVATE = 0x09
    ACTIVATED = 0x0A
    CONFIRM = 0x0B
    CONFIRMED = 0x0C
    ABORT = 0x0D
    ABORTED = 0x0E
    BUSY = 0x0F
    NOT_NOW = 0x10
    SET_BAUD = 0x11
    BAUD_OK = 0x12
    ERROR = 0x13
    DATA = 0x40
    ACK = 0x41
    NAK = 0x42


class Scope(Enum):
    """Which session number a frame may carry."""

    NONE = "0"
    OWN = "1 to 255"
    ANY = "0 to 255"


class Fixed:
    """A frame whose body is `layout`, with one field each after the session."""

    __slots__ = ()
    type: ClassVar[FrameType]
    scope: ClassVar[Scope] = Scope.OWN
    layout: ClassVar[Struct] = Struct("<")
    __match_args__: ClassVar[tuple[str, ...]]

    def to_bytes(self) -> bytes:
        """Return type, session and body."""
        session, *fields = (getattr(self, name) for name in self.__match_args__)
        return bytes((self.type, session)) + self.layout.pack(*fields)

    @classmethod
    def from_body(cls, session: int, body: bytes) -> Self:
        """Read a body. Raises FrameError."""
        if len(body) != cls.layout.size:
            raise FrameError(f"{cls.type.name} has {len(body)} bytes of body, expected {cls.layout.size}")
        return cls(session, *cls.layout.unpack(body))  # type: ignore[call-arg]  # the subclass's fields
