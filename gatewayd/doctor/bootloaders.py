"""Checks of each device's bootloader: whether it takes back an image that fails, as last reported."""

from collections.abc import Iterator, Sequence

from gatewayd.codes import Code
from gatewayd.config import Device, Settings
from gatewayd.control.client import ask
from gatewayd.control.messages import DevicesResult, DeviceView
from gatewayd.control.requests import Devices
from gatewayd.doctor.finding import Finding, ok, warning
from gatewayd.errors import GatewaydError

_ACCEPT = "allow_no_trial: true for this device accepts that"


def examine_bootloaders(settings: Settings) -> Iterator[Finding]:
    """Check the bootloaders that the daemon knows. If it does not answer, that is a finding already."""
    try:
        known = ask(settings.gateway.control_socket, Devices(), DevicesResult)
    except GatewaydError:
        return
    yield from judge_bootloaders(settings.devices, known.devices)


def judge_bootloaders(devices: Sequence[Device], views: Sequence[DeviceView]) -> Iterator[Finding]:
    """Judge what devices reported; those that have not answered yet are left out."""
    configured = {device.name: device for device in devices}
    for view in views:
        if view.name in configured and view.last_contact_at is not None:
            yield from _judge(configured[view.name], view)


def _judge(device: Device, view: DeviceView) -> Iterator[Finding]:
    bootloader = view.bootloader or "its bootloader"
    if view.can_revert:
        if view.bootloader is not None:
            yield ok(device.name, f"{bootloader}: takes back an image that fails")
    elif view.can_revert is None:
        text = "it does not say whether its bootloader takes back an image that fails"
        if device.allow_no_trial:
            yield ok(device.name, f"{text}; allow_no_trial accepts that")
            return
        hint = f"build it with CONFIG_MCUMGR_GRP_OS_BOOTLOADER_INFO=y (docs/smp.md); {_ACCEPT}"
        yield warning(device.name, text, code=Code.UNWISE, hint=hint)
    elif device.allow_no_trial:
        yield ok(
            device.name, f"{bootloader}: does not take back an image that fails; allow_no_trial accepts that"
        )
    else:
        text = f"{bootloader}: does not take back an image that fails, so updates are refused"
        hint = f"build the bootloader for a swap; {_ACCEPT}"
        yield warning(device.name, text, code=Code.NO_TRIAL_BOOT, hint=hint)
