"""`approve`, `retry`, `cancel`, `pause`, `resume`, `push` and `reload`: what a person wants done."""

import sys
from pathlib import Path
from typing import Literal

import click

from gatewayd.cli.exits import REFUSED
from gatewayd.cli.formatting import plural, printable, tell
from gatewayd.cli.options import device_argument, json_option, socket_option
from gatewayd.control.client import ask
from gatewayd.control.messages import OutcomesResult, ReloadResult
from gatewayd.control.parse import build
from gatewayd.control.requests import Hold, Push, Reload, Steer
from gatewayd.ota.file_kinds import advice

_TARGETS = "DEVICE|JOB..."
# Enough of a file to tell its kind.
_SAMPLE_BYTES = 64 * 1024


@click.command("approve")
@device_argument("targets", metavar=_TARGETS, nargs=-1, required=True)
@socket_option
@json_option
def approve(targets: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Let updates begin that wait for approval (install: manual).

    Of several, all begin that can; the others are named, and the exit code is 1.
    """
    _steer("approve", targets, control_socket, as_json=as_json)


@click.command("retry")
@device_argument("targets", metavar=_TARGETS, nargs=-1, required=True)
@socket_option
@json_option
def retry(targets: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Try again now: an update that waits, failed or was cancelled.

    A device that has no update is asked who it is. An image that the bootloader gave up is not tried again.
    """
    _steer("retry", targets, control_socket, as_json=as_json)


@click.command("cancel")
@device_argument("targets", metavar=_TARGETS, nargs=-1, required=True)
@socket_option
@json_option
def cancel(targets: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Call updates off. The same release is not tried again before `retry`; a newer one is.

    Once the device was told to start the new image it is too late.
    """
    _steer("cancel", targets, control_socket, as_json=as_json)


@click.command("pause")
@device_argument("devices", metavar="[DEVICE]...", nargs=-1)
@socket_option
@json_option
def pause(devices: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Leave devices alone, or without a name all of them, also after a restart.

    A transfer stops where it is, and the port is free for other programs. An update whose image was started
    already is followed to its end.
    """
    _hold("pause", devices, control_socket, as_json=as_json)


@click.command("resume")
@device_argument("devices", metavar="[DEVICE]...", nargs=-1)
@socket_option
@json_option
def resume(devices: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Go on with what was paused: devices, or without a name everything.

    What was paused by its name is resumed by its name.
    """
    _hold("resume", devices, control_socket, as_json=as_json)


@click.command("push")
@device_argument("device")
@click.argument("container", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--version", required=True, metavar="M.m.p", help="The firmware's version.")
@socket_option
@json_option
def push(device: str, container: Path, version: str, control_socket: Path, as_json: bool) -> None:
    """Bring a firmware to one device without MQTT: the same checks, the same job.

    CONTAINER is what `gatewayctl pack` made, or a bare image for a device with payload: standard. Returns
    when the job is made; `gatewayctl watch` shows how it goes.
    """
    with container.open("rb") as file:
        said = advice(file.read(_SAMPLE_BYTES))
        file.seek(0)
        result = ask(control_socket, build(Push, device=device, version=version), OutcomesResult, file)
    if said:
        tell(f"warning: {container}: {said}", err=True)
    _tell(result, as_json=as_json)


@click.command("reload")
@socket_option
@json_option
def reload(control_socket: Path, as_json: bool) -> None:
    """Let the daemon read its configuration again; transfers that are not concerned go on.

    With a mistake in the file nothing changes, and the mistakes are printed.
    """
    result = ask(control_socket, Reload(), ReloadResult)
    if as_json:
        click.echo(result.model_dump_json())
        return
    for warning in result.warnings:
        tell(f"warning: {warning}")
    for what, names in (("added", result.added), ("changed", result.changed), ("removed", result.removed)):
        for name in names:
            tell(f"{what}: {name}")
    if result.mqtt:
        tell("changed: mqtt; the gateway connects to the broker anew")
    tell(f"{result.file} is in force; {plural(len(result.unchanged), 'device')} unchanged")


def _steer(
    op: Literal["approve", "cancel", "retry"], targets: tuple[str, ...], path: Path, *, as_json: bool
) -> None:
    result = ask(path, build(Steer, op=op, targets=targets), OutcomesResult)
    _tell(result, as_json=as_json)


def _hold(op: Literal["pause", "resume"], devices: tuple[str, ...], path: Path, *, as_json: bool) -> None:
    result = ask(path, build(Hold, op=op, devices=devices), OutcomesResult)
    _tell(result, as_json=as_json)


def _tell(result: OutcomesResult, *, as_json: bool) -> None:
    """Tell what was done, and of several targets which were refused; then it exits with 1."""
    if as_json:
        click.echo(result.model_dump_json())
    else:
        for outcome in result.outcomes:
            _say(outcome.device, outcome.text)
        for one in result.refused:
            hint = f" ({one.error.hint})" if one.error.hint else ""
            _say(one.target, f"{one.error.message}{hint}", err=True)
        if not (result.outcomes or result.refused):
            tell("No devices are configured.")
    if result.refused:
        sys.exit(REFUSED)


def _say(about: str, text: str, *, err: bool = False) -> None:
    named = printable(text if about in text else f"{about}: {text}")
    tell(f"gatewayctl: {named}" if err else named, err=err)
