"""The codes of a device's refusals (docs/protocol.md, "Codes")."""

from enum import IntEnum

from gatewayd.errors import DeviceError


class RcpCode(IntEnum):
    """The protocol's numbers; `name.lower()` is the stable code that is stored and shown."""

    NO_SESSION = 0x0101
    BAD_STATE = 0x0102
    OTHER_BOOT = 0x0103
    ON_TRIAL = 0x0104
    RESTARTING = 0x0105
    NOT_STAGED = 0x0106
    DIGEST_MISMATCH = 0x0201
    FLASH_READ = 0x0202
    MALFORMED = 0x0301
    UNKNOWN_TYPE = 0x0302
    UNKNOWN_CRITICAL_TAG = 0x0303
    UNKNOWN_ENCODING = 0x0304
    TOO_LARGE = 0x0305
    ALREADY_TRIED = 0x0306
    FLASH_FAILED = 0x0307
    PROTOCOL_VERSION = 0x0308
    BAUD = 0x0309
    NOT_RUNNING = 0x030A
    REFUSED = 0x030B


# What a device may have against a HELLO itself.
ABOUT_HELLO = {
    RcpCode.MALFORMED,
    RcpCode.UNKNOWN_TYPE,
    RcpCode.UNKNOWN_CRITICAL_TAG,
    RcpCode.PROTOCOL_VERSION,
}


class Remedy(IntEnum):
    """What a code asks the gateway to do. It is the high byte, so that unknown codes have a meaning too."""

    HELLO = 1
    FROM_ZERO = 2
    GIVE_UP = 3


def code_name(number: int) -> str:
    """Return the stable name of a code, even if it is not in the table."""
    try:
        return RcpCode(number).name.lower()
    except ValueError:
        return f"code_{number:04x}"


def remedy(number: int) -> Remedy:
    """Return what to do about a code."""
    high = number >> 8
    return Remedy(high) if high in (Remedy.HELLO, Remedy.FROM_ZERO) else Remedy.GIVE_UP


class FrameError(DeviceError):
    """A frame that arrived intact but violates docs/protocol.md.

    Attributes:
        number: the code to answer with: MALFORMED, UNKNOWN_TYPE or UNKNOWN_CRITICAL_TAG.
    """

    def __init__(self, message: str, number: RcpCode = RcpCode.MALFORMED) -> None:
        super().__init__(message, code=number.name.lower())
        self.number = number
