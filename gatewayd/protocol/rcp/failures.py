"""The errors that end an operation, worded for people; the codes are those of docs/protocol.md."""

from collections.abc import Sequence

from gatewayd.errors import DeviceError
from gatewayd.protocol.rcp.codes import FrameError, RcpCode, code_name
from gatewayd.protocol.rcp.eaten import eaten
from gatewayd.protocol.rcp.frames import Frame
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.info import RcpInfo

_SENTENCES = {
    RcpCode.NO_SESSION: ("it knows no such session", "it may be restarting repeatedly; look at its console"),
    RcpCode.BAD_STATE: ("it does not expect that now", ""),
    RcpCode.OTHER_BOOT: ("it has restarted meanwhile", ""),
    RcpCode.ON_TRIAL: (
        "it runs an image on trial and still needs the one before",
        "it is confirmed or reverted by itself; try again later",
    ),
    RcpCode.RESTARTING: ("it is about to restart", ""),
    RcpCode.NOT_STAGED: ("it does not hold this image ready", ""),
    RcpCode.DIGEST_MISMATCH: (
        "what it reads back from its flash is not what was sent",
        "its flash or its power supply may be bad",
    ),
    RcpCode.FLASH_READ: ("it cannot read back its flash", "its flash or its power supply may be bad"),
    RcpCode.MALFORMED: ("it cannot read the frame", "gateway and device disagree on the protocol: report it"),
    RcpCode.UNKNOWN_TYPE: ("it does not know this type of frame", "its receiver is too old"),
    RcpCode.UNKNOWN_CRITICAL_TAG: (
        "it does not know a tag that it must not ignore",
        "its receiver is too old",
    ),
    RcpCode.UNKNOWN_ENCODING: ("it does not know the image's encoding", "its receiver is too old"),
    RcpCode.TOO_LARGE: ("the image does not fit its free slot", "publish a smaller image"),
    RcpCode.ALREADY_TRIED: (
        "it has tried this image before and does not run it",
        "this image is not tried again; publish a repaired one",
    ),
    RcpCode.FLASH_FAILED: ("it cannot erase or write its flash", "its flash or its power supply may be bad"),
    RcpCode.PROTOCOL_VERSION: (
        "it speaks no protocol version that the gateway speaks",
        "its receiver is too old",
    ),
    RcpCode.BAUD: ("it cannot make this speed", "another transfer_baud"),
    RcpCode.NOT_RUNNING: ("it does not run this image", ""),
    RcpCode.REFUSED: ("its firmware has said no", "its own log may say why"),
}


def refusal(number: int, request: str) -> DeviceError:
    """Return the error for a code; `request` is what the device refused."""
    code = code_name(number)
    sentence, hint = _SENTENCES.get(number, ("it gives a reason that this gateway does not recognise", ""))  # type: ignore[call-overload]  # an int finds its RcpCode
    return DeviceError(f"the device refuses {request}: {sentence} ({code})", code=code, hint=hint)


def not_understood(complaint: FrameError) -> DeviceError:
    """Return the error for a device whose answers violate the protocol."""
    return DeviceError(
        f"the device answers, but not as the protocol has it: {complaint.message}",
        code=complaint.code,
        hint="its receiver is broken, or of another protocol",
    )


def other_protocol(low: int, high: int, ours: int) -> DeviceError:
    """Return the error for a device without a common version."""
    return DeviceError(
        f"the device speaks protocol versions {low} to {high}, the gateway {ours}",
        code="protocol_version",
        hint="its receiver or gatewayd is too old",
    )


def too_slow(period_s: float, what: str) -> DeviceError:
    """Return the error for a device that accepts a few bytes now and then, always asking to wait."""
    return DeviceError(
        f"almost nothing became durable in the last {period_s:.0f} s of {what}, including waits that the"
        " device asked for",
        code="stalled",
        hint="its firmware is at fault: look at why it says BUSY",
    )


def stalled(what: str, lost: Sequence[Frame] = ()) -> DeviceError:
    """Return the error for a transfer that makes no progress although the device answers.

    `lost`: the frames of data that went missing last.
    """
    if names := eaten([encode_stream(frame.to_bytes()) for frame in lost]):
        return DeviceError(
            f"the transfer makes no progress: each frame that is missing contains {names}, and others arrive",
            code="line_eats_bytes",
            hint="the line must carry each byte: switch off software flow control and any handling of text in"
            " the adapter, in anything in between, and in the device's own driver",
        )
    return DeviceError(
        f"the transfer makes no progress: {what}",
        code="stalled",
        hint="the line may be noisy, or slower than configured",
    )


def keeps_restarting(times: int) -> DeviceError:
    """Return the error for a device that does not stay up long enough to store anything."""
    return DeviceError(
        f"the device restarted {times} times in this transfer and stored nothing new in between",
        code="keeps_restarting",
        hint="look at its power supply, its watchdog and its console",
    )


def device_changed(before: RcpInfo, now: RcpInfo) -> DeviceError:
    """Return the error for another device on the line, in the middle of a transfer."""
    return DeviceError(
        f"another device answers: expected {identity(before)}, found {identity(now)}", code="device_changed"
    )


def identity(info: RcpInfo) -> tuple[str, str | None, str | None]:
    """Return what must stay the same throughout a transfer."""
    return info.app_id, info.hardware_id, info.device_id


def prefix_mismatch(offset: int, size: int) -> DeviceError:
    """Return the error for a device whose bytes differ from those sent to it."""
    return DeviceError(
        f"the device has {offset} bytes of an image of {size}, and they are not that image's",
        code="prefix_mismatch",
        hint="its flash or its journal may be bad",
    )
