"""What ends an operation, in words for a person."""

from gatewayd.errors import DeviceError


def in_recovery() -> DeviceError:
    """MCUboot's serial recovery answers, and stays."""
    return DeviceError(
        "MCUboot's serial recovery answers instead of the application, and a restart does not change that",
        code="in_recovery",
        hint="smp: {recovery: true} for this device brings it back through serial recovery",
    )


def on_trial(version: str) -> DeviceError:
    """Another image runs, and is not confirmed."""
    return DeviceError(
        f"the device runs {version} on trial and still needs the image before it",
        code="on_trial",
        hint="restart it to go back, or have its firmware confirm itself; then this goes on",
    )


def digest_mismatch(what: str) -> DeviceError:
    """The device has other bytes than were sent to it."""
    return DeviceError(
        f"the device {what}", code="digest_mismatch", hint="its flash or its power supply may be bad"
    )


def not_pending() -> DeviceError:
    """The device agreed to try an image, and does not say that it will."""
    return DeviceError(
        "the device agreed to try the image and does not list it as pending",
        code="not_staged",
        hint="look at its console; its flash may be bad",
    )


def not_running() -> DeviceError:
    """The image to be confirmed does not run."""
    return DeviceError("the device does not run the image to be confirmed", code="not_running")


def not_confirmed() -> DeviceError:
    """The device agreed to keep an image, and does not say that it does."""
    return DeviceError(
        "the device agreed to keep the image and still lists it as on trial",
        code="not_confirmed",
        hint="look at its console; its flash may be bad",
    )
