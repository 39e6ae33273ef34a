"""`gatewayctl devices`: the identity, version and state of every device."""

from pathlib import Path

import click

from gatewayd.cli.formatting import because, columns, duration, echo, indented, plural, printable, speed
from gatewayd.cli.options import device_argument, json_option, socket_option
from gatewayd.codes import Code, meaning
from gatewayd.control.client import ask
from gatewayd.control.messages import DevicesResult, DeviceView, LastResult, Link
from gatewayd.control.parse import build
from gatewayd.control.requests import Devices

_COLOURS = {"succeeded": "green", "failed": "red", "refused": "red", "unreachable": "red"}


@click.command()
@device_argument("names", metavar="[DEVICE]...", nargs=-1)
@socket_option
@json_option
def command(names: tuple[str, ...], control_socket: Path, as_json: bool) -> None:
    """Show all devices, or those named.

    Each device has a line, followed by its link and identity, the result of its last update, and the
    reason if something is wrong.
    """
    result = ask(control_socket, build(Devices, names=names), DevicesResult)
    if as_json:
        click.echo(result.model_dump_json())
        return
    if result.paused is not None:
        echo(f"Everything is paused by {result.paused.by} since {result.paused.since}.\n")
    if result.trouble is not None:
        cannot = "log in to the broker" if result.trouble.code == Code.LOGIN_UNUSABLE else "store anything"
        echo(f"{indented(f'gatewayd cannot {cannot}: {printable(result.trouble.reason)}', 0)}\n", fg="red")
    if result.config_refused is not None:
        echo("The configuration on disk is refused, and an older one is in force:", fg="red")
        for line in result.config_refused.splitlines():
            echo(indented(printable(line)), fg="red")
        echo()
    if not result.devices:
        echo(f"No devices are configured on {result.gateway}.")
        return
    heading = ["DEVICE", "LINK", "INSTALLED", "LATEST", "STATE", "PROGRESS"]
    lines = columns([heading, *(_row(device) for device in result.devices)])
    echo(lines[0], bold=True)
    for line, device in zip(lines[1:], result.devices, strict=True):
        echo(line, fg=_COLOURS.get(device.state))
        for more in _details(device):
            echo(indented(printable(more)))
    echo(f"\n{indented(_summary(result), 0)}")


def progress_text(device: DeviceView) -> str:
    """Describe the progress of a transfer: percent, speed, time left, resumes."""
    if device.progress is None:
        return ""
    parts = [f"{device.progress} %"]
    if device.bytes_per_s:
        parts.append(speed(device.bytes_per_s))
    if device.seconds_left:
        parts.append(f"{duration(device.seconds_left)} left")
    if device.resumes:
        parts.append(plural(device.resumes, "resume"))
    return ", ".join(parts)


def _row(device: DeviceView) -> list[str]:
    state = f"{device.state} (paused)" if device.paused else device.state
    installed, latest = device.installed_version or "-", device.latest_version or "-"
    cells = [device.name, device.link.health, installed, latest, state, progress_text(device)]
    return [printable(cell) for cell in cells]


def _details(device: DeviceView) -> list[str]:
    identity = [f"app {device.app_id}"]
    if device.hardware_id:
        identity.append(f"hardware {device.hardware_id}")
    if device.device_id:
        identity.append(f"id {device.device_id}")
    if device.bootloader:
        identity.append(f"bootloader {device.bootloader}")
    lines = [f"{_link_text(device.link)}; {', '.join(identity)}"]
    if device.last_result is not None:
        lines.append(f"last: {_last(device.last_result, told=device.code)}")
    if device.code and not meaning(device.code).is_well:
        lines.append(because(device.code, device.reason))
    elif device.link.reason:
        lines.append(f"{device.link.health}: {device.link.reason}")
    return lines


def _link_text(link: Link) -> str:
    return f"{link.address} at {link.baud} baud" if link.kind == "uart" else f"Bluetooth {link.address}"


def _last(last: LastResult, told: str | None) -> str:
    """Describe how the last job ended; without the reason if the device's state gives it anyway."""
    text = f"job {last.job}, {last.version} {last.state} on {last.at}"
    if not last.code:
        return text
    return f"{text}: {last.code}" if last.code == told else f"{text}: {last.code}: {last.reason}"


def _summary(result: DevicesResult) -> str:
    states: dict[str, int] = {}
    for device in result.devices:
        states[device.state] = states.get(device.state, 0) + 1
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"{plural(len(result.devices), 'device')} on {result.gateway}: {counts}"
