"""Why a session ends badly, in words for whoever reads them at night."""

from gatewayd.errors import DeviceError, LinkError
from gatewayd.protocol.rcp.codes import Code, code_name

_HINTS = {
    Code.ON_TRIAL: "confirm the running image or wait until its trial is over",
    Code.TOO_LARGE: "build a smaller image, or one for another slot",
    Code.ALREADY_TRIED: "the device ran it once and gave it up; publish a higher patch",
    Code.DIGEST_MISMATCH: "twice in a row: the device's flash is suspect",
    Code.FLASH_READ: "twice in a row: the device's flash is suspect",
    Code.FLASH_FAILED: "the device's flash cannot be erased or written any more",
    Code.UNKNOWN_ENCODING: "the receiver is older than this gateway; update it",
    Code.UNKNOWN_CRITICAL_TAG: "the receiver is older than this gateway; update it",
    Code.UNKNOWN_TYPE: "the receiver is older than this gateway; update it",
    Code.PROTOCOL_VERSION: "update the older of the two",
    Code.NOT_RUNNING: "the device runs another image than it should",
    Code.REFUSED: "ask whoever wrote the firmware's hook",
}


def device_says(number: int, doing: str) -> DeviceError:
    """Return the error for a code the device sent."""
    name = code_name(number)
    hint = _HINTS.get(Code(number), "") if number in list(Code) else ""
    return DeviceError(f"the device answered {name} to {doing}", code=name, hint=hint)


def no_answer(doing: str, baud: int) -> LinkError:
    """Return the error for silence."""
    return LinkError(
        f"no answer to {doing} at {baud} baud",
        code="no_answer",
        hint="check cable, power and baud; is something else using the line?",
    )


def stalled(doing: str, received: int, size: int) -> LinkError:
    """Return the error for a device that is there but gets nowhere."""
    return LinkError(
        f"no progress with {doing}, {received} of {size} bytes received",
        code="stalled",
        hint="a noisy line or a device that has hung; try a lower speed",
    )


def broken_peer(message: str, code: str) -> DeviceError:
    """Return the error for a device that does not keep to the protocol."""
    return DeviceError(message, code=code, hint="the receiver in the firmware is at fault")
