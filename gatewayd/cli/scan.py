"""`gatewayctl scan`: find devices, and print them as YAML for the configuration."""

import asyncio
import re
from pathlib import Path

import click
from pydantic import BaseModel

from gatewayd.cli.groups import Group
from gatewayd.cli.local_devices import look_up
from gatewayd.cli.options import DEFAULT_CONFIG, F, Fraction, json_option, socket_option
from gatewayd.cli.scan_yaml import ble_to_yaml, uart_to_yaml
from gatewayd.config.model import ADAPTER_PATTERN
from gatewayd.link.factory import radio_target
from gatewayd.link.ports import machine_ports, named_port
from gatewayd.scan.uart import scan_uart

DEFAULT_BAUD = 115_200


@click.group(cls=Group)
def command() -> None:
    """Find devices."""


def _config_option(function: F) -> F:
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        help=f"Configuration whose devices are already known.  [default: {DEFAULT_CONFIG}, if it exists]",
    )(function)


@command.command()
@click.option("--port", "paths", multiple=True, metavar="PATH", help="A port to scan.  [default: all]")
@click.option(
    "--baud",
    "bauds",
    type=click.IntRange(300, 12_000_000),
    multiple=True,
    default=(DEFAULT_BAUD,),
    metavar="N",
    help=f"A speed to try; several are tried in the given order.  [default: {DEFAULT_BAUD}]",
)
@click.option("--reset", "may_reset", is_flag=True, help="Also open ports if that may reset the board.")
@_config_option
@socket_option
@json_option
def uart(
    paths: tuple[str, ...],
    bauds: tuple[int, ...],
    may_reset: bool,
    config: Path | None,
    control_socket: Path,
    as_json: bool,
) -> None:
    """Find devices on serial ports; print YAML to paste into the configuration.

    Ports in use are left alone. Opening some ports, such as USB adapters, may reset the board; without
    --reset they are listed but not opened. Nothing on a device is changed.
    """
    known = look_up(config, control_socket)
    named = {port.node: port for port in map(named_port, paths)}
    ports = tuple(named.values()) or machine_ports()
    report = asyncio.run(
        scan_uart(
            ports,
            gateway_id=known.gateway_id,
            bauds=list(dict.fromkeys(bauds)),
            may_reset=may_reset,
            configured=known.ports,
            claimed=known.claimed_ports,
        )
    )
    _print(report, uart_to_yaml(report, known.names), as_json=as_json)


def _check_adapter(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(ADAPTER_PATTERN, value):
        raise click.BadParameter(f"{value!r} is not an adapter name such as hci0")
    return value


@command.command()
@click.option(
    "--adapter",
    metavar="NAME",
    callback=_check_adapter,
    help="hci0, hci1, …  [default: the first that is on]",
)
@click.option(
    "--seconds",
    "duration_s",
    type=Fraction(1, 600),
    default=10,
    show_default=True,
    help="How long to listen; sleeping devices need longer.",
)
@click.option("--ask", is_flag=True, help="Connect to devices that offer a protocol, and identify them.")
@click.option("--all", "everything", is_flag=True, help="Also list devices that do not advertise a protocol.")
@_config_option
@socket_option
@json_option
def ble(
    adapter: str | None,
    duration_s: float,
    ask: bool,
    everything: bool,
    config: Path | None,
    control_socket: Path,
    as_json: bool,
) -> None:
    """Listen for Bluetooth devices; print YAML to paste into the configuration.

    Lists devices that advertise a protocol's service, and those in the configuration. A connected device
    does not advertise. With --ask, connects to each in turn, except those that the running gatewayd uses;
    nothing on them is changed, and they are not paired.
    """
    from gatewayd.link.radio import Radio  # noqa: PLC0415 - `scan uart` needs no Bluetooth
    from gatewayd.scan.ble import Ours, scan_ble  # noqa: PLC0415

    known = look_up(config, control_socket)
    targets = {name: radio_target(written) for name, written in known.targets.items()}
    ours = Ours(known.gateway_id, targets, known.claimed, known.protocols)
    report = asyncio.run(
        scan_ble(Radio(adapter), ours, duration_s=duration_s, ask=ask, everything=everything)
    )
    _print(report, ble_to_yaml(report, known), as_json=as_json)


def _print(report: BaseModel, text: str, *, as_json: bool) -> None:
    click.echo(report.model_dump_json() if as_json else text, nl=as_json)
