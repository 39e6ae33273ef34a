"""Checks before a port is opened, when a device answers (is it the right one?), and before it gets an image.

Each check passes or raises.
"""

from gatewayd.codes import Code
from gatewayd.config import BleSettings, Device, Settings
from gatewayd.config.shared_ports import sharing_port
from gatewayd.errors import DeviceError, LinkError
from gatewayd.jobs.eligibility import installed_version, line_of
from gatewayd.jobs.model import DeviceRecord, Job
from gatewayd.jobs.rollback_marks import Marked, builds_for, mark_of
from gatewayd.ota.rules import check_identity, check_rollback, check_version
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


def check_is_meant(settings: Settings, device: Device, info: DeviceInfo) -> None:
    """Raise DeviceError unless this is the device the configuration means; name the one it looks like."""
    try:
        check_identity(
            device.app_id,
            device.hardware_id,
            device.device_id,
            got_app=info.app_id,
            got_hardware=info.hardware_id,
            got_device=info.device_id,
        )
    except DeviceError as error:
        others = ", ".join(one.name for one in settings.devices if one != device and _fits(one, info))
        hint = f"it looks like {others}: are the boards swapped?" if others else error.hint
        raise DeviceError(f"{device.name}: {error.message}", code=error.code, hint=hint) from None


def check_is_begun_with(device: Device, job: Job, info: DeviceInfo, peer: str | None) -> None:
    """The device is the one that the job was offered to first, as far as that can be told.

    `peer` is where its link leads now. A device id tells best; without one the address does, if it stays, and
    without that only what no other device knows: the boot, or the image. Raises DeviceError `device_changed`.
    """
    if job.image is None:
        return
    is_alone = not _has_lookalikes(device) or (peer is not None and peer == job.peer)
    has_image = job.image in (info.running, info.tried)
    if None not in (job.device_id, info.device_id):
        is_same = job.device_id == info.device_id or (is_alone and has_image)
    else:
        is_same = is_alone or has_image or (info.boot_id is not None and info.boot_id == job.boot_id)
    if not is_same:
        began = " ".join(filter(None, (job.device_id and f"device_id {job.device_id!r}", job.peer)))
        raise DeviceError(
            f"another device answers: job {job.id} began with {began or 'another boot'},"
            f" found {peer or 'an address that changes'}, device_id {info.device_id!r}",
            code="device_changed",
            hint=f"was it replaced? `gatewayctl cancel {job.id}`, then `gatewayctl retry {device.name}`",
        )


def _has_lookalikes(device: Device) -> bool:
    """Whether several devices may fit what the configuration says of the link."""
    return isinstance(device.link, BleSettings) and device.link.ble.address is None


def _fits(device: Device, info: DeviceInfo) -> bool:
    return (
        info.app_id in (None, device.app_id)
        and device.hardware_id in (None, info.hardware_id)
        and device.device_id in (None, info.device_id)
    )
