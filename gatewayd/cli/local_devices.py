"""The devices this gateway already has, from its configuration and from the running daemon."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gatewayd.cli.options import DEFAULT_CONFIG
from gatewayd.config import BleTarget, Host
from gatewayd.config.fragments import read_all
from gatewayd.control.client import ask
from gatewayd.control.messages import DevicesResult
from gatewayd.control.requests import Devices
from gatewayd.errors import GatewaydError
from gatewayd.protocol.registry import PROTOCOLS
from gatewayd.store.lock import find_daemon

# If we may not look, it is safer to assume that the daemon is running.
_CLAIMS: dict[bool | None, str] = {
    True: "in use by the running gatewayd",
    None: "left to gatewayd, which may be running: this user cannot see whether it is",
}


@dataclass(frozen=True)
class LocalDevices:
    """This gateway's devices. `ports`: names by port node; `targets`: Bluetooth targets by name.

    `claimed`: by name, why a device is left to the daemon. `protocols`: by name, if the file sets one.
    """

    gateway_id: str = field(default_factory=socket.gethostname)
    ports: dict[str, str] = field(default_factory=dict)
    targets: dict[str, BleTarget] = field(default_factory=dict)
    claimed: dict[str, str] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """The devices' names."""
        return {*self.ports.values(), *self.targets}

    @property
    def claimed_ports(self) -> dict[str, str]:
        """Why a port is left to the daemon, by its node."""
        return {node: self.claimed[name] for node, name in self.ports.items() if name in self.claimed}


def look_up(path: Path | None, control_socket: Path) -> LocalDevices:
    """Read the links from the configuration, even if other parts have mistakes or are not readable.

    The answer of a running daemon takes precedence. Raises ConfigErrors if the file cannot be read at all,
    unless it is the default one and does not exist.
    """
    if path is None and not DEFAULT_CONFIG.exists():
        return _ask_daemons({control_socket}) or LocalDevices()
    file = path or DEFAULT_CONFIG
    root = _mapping(read_all(file, Host.here()).root)
    gateway = _mapping(root.get("gateway"))
    written = LocalDevices(gateway_id=_text(gateway.get("id"), socket.gethostname()))
    usual = _mapping(root.get("defaults")).get("protocol")
    for name, link, protocol in _written_links(root.get("devices")):
        _add(written, name, link.get("uart"), link.get("ble"))
        chosen = _text(protocol, _text(usual, ""))
        if chosen in PROTOCOLS:
            written.protocols[name] = chosen
    sockets = {control_socket, file.parent / _text(gateway.get("control_socket"), str(control_socket))}
    if (answered := _ask_daemons(sockets)) is not None:
        # The daemon gives a target as text, which cannot always be parsed; the file has it exactly.
        targets = {**answered.targets, **written.targets}
        return LocalDevices(
            answered.gateway_id,
            {**written.ports, **answered.ports},
            targets,
            answered.claimed,
            written.protocols,
        )
    daemon = find_daemon(file.parent / _text(gateway.get("state_dir"), "/var/lib/gatewayd"))
    if daemon.runs is not False:
        written.claimed.update(dict.fromkeys(written.names, _CLAIMS[daemon.runs]))
    return written


def _ask_daemons(sockets: set[Path]) -> LocalDevices | None:
    """Ask the daemons on these sockets for their devices; None if none answers."""
    known = None
    for path in sorted(sockets):
        try:
            answer = ask(path, Devices(), DevicesResult)
        except GatewaydError:
            continue
        known = known or LocalDevices(answer.gateway)
        for device in answer.devices:
            is_ble, address = device.link.kind == "ble", device.link.address
            _add(known, device.name, None if is_ble else address, address if is_ble else None)
            about = f"runs {device.installed_version}, link {device.link.health}"
            known.claimed[device.name] = f"in use by the running gatewayd: {device.name} {about}"
    return known


def _add(known: LocalDevices, name: str, uart: Any, ble: Any) -> None:
    """Add a device, if its link can be read."""
    if isinstance(uart, str):
        known.ports[os.path.realpath(uart)] = name
    if ble is None:
        return
    for target in ({"address": ble}, {"name": ble}, ble):
        try:
            known.targets[name] = BleTarget.model_validate(target)
        except ValidationError:
            continue
        return


def _written_links(devices: Any) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield each device's name, link and protocol, as far as they are given."""
    for device in map(_mapping, devices if isinstance(devices, list) else []):
        if isinstance(name := device.get("name"), str):
            yield name, _mapping(device.get("link")), device.get("protocol")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise
