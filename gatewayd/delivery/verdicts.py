"""What is wrong where a device's answer ends an attempt."""

from gatewayd.errors import DeviceError
from gatewayd.protocol.session import DeviceInfo, ImageState
from gatewayd.protocol.steps import Step


def failure_of(step: Step, info: DeviceInfo, version: str, device: str) -> DeviceError:
    """Return the error for a step that leads no further; `version` is the one that was to run."""
    match step:
        case Step.AWAIT_TRIAL_END:
            return DeviceError(
                "the device runs another image on trial, whose predecessor it still needs",
                code="on_trial",
                hint="it is confirmed or reverted by itself, then this goes on",
            )
        case Step.FAIL_VERSION:
            return DeviceError(
                f"the device reports version {info.version}, expected {version}", code="version_mismatch"
            )
        case Step.FAIL_REJECTED:
            return _rejected(info, version, device)
        case _:
            return _reverted(info, version, device)


def _rejected(info: DeviceInfo, version: str, device: str) -> DeviceError:
    now = f"{info.version} still runs" if info.version else "the device has no application to start"
    return DeviceError(
        f"the bootloader did not accept {version}, and {now}: the image is signed with another key than the"
        " bootloader's, older than it allows, or was damaged on the way",
        code="image_rejected",
        hint=f"compare the keys (imgtool verify); `gatewayctl retry {device}` sends it once more",
    )


def _reverted(info: DeviceInfo, version: str, device: str) -> DeviceError:
    hint = (
        "publish a repaired one; if it was only a restart,"
        f" `gatewayctl retry {device} --reverted` orders one more try"
    )
    if info.image_state is ImageState.ON_TRIAL:
        hint = (
            "it still says that it is on trial, and refuses updates: correct `on_trial` in its firmware"
            " (device/docs/trial.md)"
        )
    return DeviceError(
        f"{version} was started and the bootloader gave it up; {info.version} runs again."
        " Either the image does not work, or the device restarted before it was confirmed:"
        " opening its port may reset it, and so does a power cut",
        code="reverted",
        hint=hint,
    )
