"""The errors that end an operation, worded for people."""

from gatewayd.errors import DeviceError


def in_recovery() -> DeviceError:
    """Return the error for a device that stays in MCUboot's serial recovery."""
    return DeviceError(
        "MCUboot's serial recovery answers instead of the application, and a restart does not change that",
        code="in_recovery",
        hint="smp: {recovery: true} for this device restores it through serial recovery",
    )


def busy() -> DeviceError:
    """Return the error for a device that reports nothing but that it is busy."""
    return DeviceError("the device says that it is busy, and nothing else", code="device_busy")


def on_trial(version: str) -> DeviceError:
    """Return the error for another image running unconfirmed."""
    return DeviceError(
        f"the device runs {version} on trial and still needs the image before it",
        code="on_trial",
        hint="restart it to revert, or have its firmware confirm itself; then this update continues",
    )


def digest_mismatch(what: str) -> DeviceError:
    """Return the error for a device whose bytes differ from those sent to it."""
    return DeviceError(
        f"the device {what}", code="digest_mismatch", hint="its flash or its power supply may be bad"
    )


def not_pending() -> DeviceError:
    """Return the error for a device that agreed to try an image but does not list it as pending."""
    return DeviceError(
        "the device agreed to try the image but does not list it as pending",
        code="not_staged",
        hint="look at its console; its flash may be bad",
    )


def no_trial() -> DeviceError:
    """Return the error for a bootloader that would start the image for good."""
    return DeviceError(
        "the device cannot try the image: its bootloader starts the newest one for good",
        code="no_trial_boot",
        hint="allow_no_trial: true for this device accepts that risk; a restart may start the image anyway",
    )


def not_running() -> DeviceError:
    """Return the error for confirming an image that does not run."""
    return DeviceError("the device does not run the image to be confirmed", code="not_running")


def not_confirmed() -> DeviceError:
    """Return the error for a device that agreed to keep an image but lists it as on trial."""
    return DeviceError(
        "the device agreed to keep the image but still lists it as on trial",
        code="not_confirmed",
        hint="look at its console; its flash may be bad",
    )
