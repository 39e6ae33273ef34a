"""`gatewayctl scan`: who is there, as a configuration to paste."""

import asyncio
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from gatewayd.cli.options import json_option, socket_option
from gatewayd.cli.paste import to_yaml
from gatewayd.config import Host
from gatewayd.config.fragments import read_all
from gatewayd.control.client import ask
from gatewayd.control.messages import Devices, DevicesResult
from gatewayd.errors import GatewaydError, HostError
from gatewayd.jobs.lock import find_daemon
from gatewayd.link.ports import machine_ports, named_port
from gatewayd.scan import scan_uart

DEFAULT_CONFIG = Path("/etc/gatewayd/config.yaml")
DEFAULT_BAUD = 115_200
# Where we may not look, it is better to take the daemon for running.
_CLAIMS: dict[bool | None, str] = {
    True: "in use by the running gatewayd",
    None: "left to gatewayd, which may be running: this user cannot see whether it is",
}


@dataclass(frozen=True)
class Known:
    """This gateway: its id, its devices by the node of their port, and the ports that are the daemon's."""

    gateway_id: str = field(default_factory=socket.gethostname)
    configured: dict[str, str] = field(default_factory=dict)
    claimed: dict[str, str] = field(default_factory=dict)


@click.group()
def command() -> None:
    """Find devices."""


@command.command()
@click.option("--port", "paths", multiple=True, metavar="PATH", help="A port to ask.  [default: all]")
@click.option(
    "--baud",
    "bauds",
    type=click.IntRange(300, 12_000_000),
    multiple=True,
    default=(DEFAULT_BAUD,),
    metavar="N",
    help=f"A speed to try; several are tried in this order.  [default: {DEFAULT_BAUD}]",
)
@click.option("--reset", "may_reset", is_flag=True, help="Also open ports where that may reset the board.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help=f"Whose devices are known already.  [default: {DEFAULT_CONFIG}, if it is there]",
)
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
    """Ask on serial ports who is there; prints YAML to paste into the configuration.

    A port in use is left alone. A port that may reset its board when it is opened, as USB adapters may, is
    listed and not asked, unless --reset is given. Nothing in a device is changed.
    """
    known = _know(config, control_socket)
    named = {port.node: port for port in map(named_port, paths)}
    ports = tuple(named.values()) or machine_ports()
    report = asyncio.run(
        scan_uart(
            ports,
            gateway_id=known.gateway_id,
            bauds=list(dict.fromkeys(bauds)),
            may_reset=may_reset,
            configured=known.configured,
            claimed=known.claimed,
        )
    )
    click.echo(
        report.model_dump_json() if as_json else to_yaml(report, known.configured.values()), nl=as_json
    )


@command.command()
def ble() -> None:
    """Refused: this version cannot look for Bluetooth devices."""
    raise HostError(
        "this version of gatewayd does not look for Bluetooth devices",
        code="not_supported",
        hint="`bluetoothctl scan le` lists them; docs/bluetooth.md says what to write into the configuration",
    )


def _know(path: Path | None, control_socket: Path) -> Known:
    """Read what the configuration says of ports, also when other parts have mistakes or are not ours to read.

    A daemon that answers knows its ports best. Raises ConfigErrors when the file cannot be read at all, but
    for a default one that is not there.
    """
    if path is None and not DEFAULT_CONFIG.exists():
        return _ask_daemons({control_socket}) or Known()
    file = path or DEFAULT_CONFIG
    root = _mapping(read_all(file, Host.here()).root)
    gateway = _mapping(root.get("gateway"))
    configured = dict(_written_ports(root.get("devices")))
    sockets = {control_socket, file.parent / _text(gateway.get("control_socket"), str(control_socket))}
    if (answered := _ask_daemons(sockets)) is not None:
        return Known(answered.gateway_id, {**configured, **answered.configured}, answered.claimed)
    daemon = find_daemon(file.parent / _text(gateway.get("state_dir"), "/var/lib/gatewayd"))
    return Known(
        gateway_id=_text(gateway.get("id"), socket.gethostname()),
        configured=configured,
        claimed={} if daemon.runs is False else dict.fromkeys(configured, _CLAIMS[daemon.runs]),
    )


def _ask_daemons(sockets: set[Path]) -> Known | None:
    """Ask the daemons there for their ports; None when nobody answers."""
    known = None
    for path in sorted(sockets):
        try:
            answer = ask(path, Devices(), DevicesResult)
        except GatewaydError:
            continue
        known = known or Known(answer.gateway)
        for device in answer.devices:
            node = os.path.realpath(device.link.address)
            known.configured[node] = device.name
            about = f"runs {device.installed_version}, link {device.link.health}"
            known.claimed[node] = f"in use by the running gatewayd: {device.name} {about}"
    return known


def _written_ports(devices: Any) -> Iterator[tuple[str, str]]:
    """Yield each device's node and name, as far as they are there."""
    for device in map(_mapping, devices if isinstance(devices, list) else []):
        uart, name = _mapping(device.get("link")).get("uart"), device.get("name")
        if isinstance(uart, str) and isinstance(name, str):
            yield os.path.realpath(uart), name


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise
