"""`gatewayctl approve`, `retry`, `cancel`, `pause`, `resume`, `push` and `reload`."""

import sys
from pathlib import Path
from typing import Literal

import click

from gatewayd.cli.exits import REFUSED
from gatewayd.cli.formatting import echo, plural, printable
from gatewayd.cli.options import device_argument, json_option, socket_option
from gatewayd.control.client import ask
from gatewayd.control.messages import OutcomesResult, ReloadResult
from gatewayd.control.parse import build
from gatewayd.control.requests import Hold, Push, Reload, Steer
from gatewayd.ota.file_kinds import advice

_TARGETS = "DEVICE|JOB..."
# Enough of a file to recognise its kind.
_SAMPLE_BYTES = 64 * 1024


@click.command("approve")
@device_argument("targets", metavar=_TARGETS, nargs=-1, required=True)
@socket_option
@json_option
def approve(targets: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Approve updates that are waiting for approval (install: manual).

    If some of several cannot be approved, the others still are; the exit code is then 1.
    """
    _steer("approve", targets, control_socket, as_json=as_json)


@click.command("retry")
@device_argument("targets", metavar=_TARGETS, nargs=-1, required=True)
@click.option(
    "--reverted",
    is_flag=True,
    help="Order one more try of an image that the bootloader took back, for instance because the device"
    " restarted during the trial.",
)
@socket_option
@json_option
def retry(targets: tuple[str, ...], reverted: bool, control_socket: Path, as_json: bool) -> None:
    """Retry an update that is waiting, failed or was cancelled.

    A device that has no update is identified. An image that the bootloader took back is only tried again with
    --reverted. With RCP that is possible once for an image: the device itself counts.
    """
    result = ask(control_socket, build(Steer, op="retry", targets=targets, reverted=reverted), OutcomesResult)
    _print_outcomes(result, as_json=as_json)


@click.command("cancel")
@device_argument("targets", metavar=_TARGETS, nargs=-1, required=True)
@socket_option
@json_option
def cancel(targets: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Cancel updates. The same release is not tried again until `retry`; a newer one is.

    An update cannot be cancelled once the device was told to start the new image.
    """
    _steer("cancel", targets, control_socket, as_json=as_json)


@click.command("pause")
@device_argument("devices", metavar="[DEVICE]...", nargs=-1)
@socket_option
@json_option
def pause(devices: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Pause devices, or all of them if none is named; this survives a restart.

    A transfer stops where it is, and other programs can use the port. An update whose image was already
    started is still followed through.
    """
    _hold("pause", devices, control_socket, as_json=as_json)


@click.command("resume")
@device_argument("devices", metavar="[DEVICE]...", nargs=-1)
@socket_option
@json_option
def resume(devices: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Resume devices, or everything if none is named.

    A device that was paused by name must be resumed by name.
    """
    _hold("resume", devices, control_socket, as_json=as_json)


@click.command("push")
@device_argument("device")
@click.argument("container", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--version", required=True, metavar="M.m.p", help="The firmware's version.")
@click.option(
    "--line",
    is_flag=True,
    help="Take the step to another major.minor line that --version implies, which is otherwise refused.",
)
@socket_option
@json_option
def push(device: str, container: Path, version: str, line: bool, control_socket: Path, as_json: bool) -> None:
    """Update one device from a file, without MQTT: the same checks, the same kind of job.

    CONTAINER is what `gatewayctl pack` writes, or a bare image for a device with payload: standard. Returns
    once the job exists; `gatewayctl watch` shows its progress.
    """
    with container.open("rb") as file:
        said = advice(file.read(_SAMPLE_BYTES))
        file.seek(0)
        result = ask(
            control_socket, build(Push, device=device, version=version, line=line), OutcomesResult, file
        )
    if said:
        echo(f"warning: {container}: {said}", err=True)
    _print_outcomes(result, as_json=as_json)


@click.command("reload")
@socket_option
@json_option
def reload(control_socket: Path, as_json: bool) -> None:
    """Make the daemon reload its configuration; transfers that are not affected continue.

    If the file has mistakes, they are printed and nothing changes.
    """
    result = ask(control_socket, Reload(), ReloadResult)
    if as_json:
        click.echo(result.model_dump_json())
        return
    for warning in result.warnings:
        echo(f"warning: {warning}")
    for what, names in (("added", result.added), ("changed", result.changed), ("removed", result.removed)):
        for name in names:
            echo(f"{what}: {name}")
    if result.mqtt:
        echo("changed: mqtt; gatewayd reconnects to the broker")
    echo(f"{result.file} is in force; {plural(len(result.unchanged), 'device')} unchanged")


def _steer(op: Literal["approve", "cancel"], targets: tuple[str, ...], path: Path, *, as_json: bool) -> None:
    result = ask(path, build(Steer, op=op, targets=targets), OutcomesResult)
    _print_outcomes(result, as_json=as_json)


def _hold(op: Literal["pause", "resume"], devices: tuple[str, ...], path: Path, *, as_json: bool) -> None:
    result = ask(path, build(Hold, op=op, devices=devices), OutcomesResult)
    _print_outcomes(result, as_json=as_json)


def _print_outcomes(result: OutcomesResult, *, as_json: bool) -> None:
    """Print what was done, and exit with 1 if some of the targets were refused."""
    if as_json:
        click.echo(result.model_dump_json())
    else:
        for outcome in result.outcomes:
            _print_about(outcome.device, outcome.text)
        for one in result.refused:
            hint = f" ({one.error.hint})" if one.error.hint else ""
            _print_about(one.target, f"{one.error.message}{hint}", err=True)
        if not (result.outcomes or result.refused):
            echo("No devices are configured.")
    if result.refused:
        sys.exit(REFUSED)


def _print_about(about: str, text: str, *, err: bool = False) -> None:
    named = printable(text if about in text else f"{about}: {text}")
    echo(f"gatewayctl: {named}" if err else named, err=err)
