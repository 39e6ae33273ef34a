"""Checks before a device's port is opened and, once it answers, before it gets an image.

Each check passes or raises.
"""

from gatewayd.codes import Code
from gatewayd.config import Device, Settings
from gatewayd.config.shared_ports import sharing_port
from gatewayd.errors import DeviceError, LinkError
from gatewayd.jobs.eligibility import installed_version, line_of
from gatewayd.jobs.marks import Marked, builds_for, mark_of
from gatewayd.jobs.model import DeviceRecord, Job
from gatewayd.ota.rules import check_rollback, check_version
from gatewayd.ota.version import Version
from gatewayd.protocol.session import DeviceInfo, ImageState


def check_port_is_not_shared(settings: Settings, device: Device) -> None:
    """Check that no other device has the same port at present: which of them answers would be chance.

    Raises LinkError `port_shared`.
    """
    others = sharing_port(device, settings.devices)
    if others:
        named = ", ".join(f"{other.name} ({other.link.address})" for other in others)
        raise LinkError(
            f"{device.link.address} leads to the same port as {named}",
            code=Code.PORT_SHARED,
            hint="name both by /dev/serial/by-path/…; adapters with one serial number share one by-id name",
        )


def check_is_newer(device: Device, info: DeviceInfo, job: Job) -> Version:
    """Check the version, now that it is known what the device runs, and return the installed one.

    The planner decided on the step from the line that the job begins at; from any other it is checked again.

    Raises FirmwareError `not_newer`, `incompatible`.
    """
    installed = installed_version(device, DeviceRecord(device.name, info))
    if info.image_state is not ImageState.ON_TRIAL:  # then it is about to be confirmed, or refuses
        offered = Version.parse(job.version)
        is_decided = Version.parse(job.from_version).line == installed.line
        line = offered.line if is_decided else line_of(device, installed)
        check_version(installed, offered, line=line, allow_downgrade=device.allow_downgrade)
    return installed


def check_is_not_rolled_back(
    settings: Settings, device: Device, info: DeviceInfo, job: Job, marked: Marked
) -> None:
    """Check that firmware is not older than what this board has run. Raises FirmwareError `rollback`."""
    mark = mark_of(device, info, marked, builds_for(settings, device, marked))
    container = bytes.fromhex(job.container_sha256)
    check_rollback(mark, job.timestamp_ms, container, allow_downgrade=device.allow_downgrade)


def check_can_revert(device: Device, info: DeviceInfo) -> None:
    """Check that the device can revert, or the risk is accepted. Raises DeviceError `no_trial_boot`."""
    if info.can_revert is False and not device.allow_no_trial:
        raise DeviceError(
            "the device cannot go back if new firmware fails: its bootloader has no trial boot",
            code="no_trial_boot",
            hint="allow_no_trial: true for this device accepts that risk",
        )
