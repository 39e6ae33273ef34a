"""Checks of each device's port: it exists, the daemon may open it, and no other program has it open."""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gatewayd.config import Device, UartSettings
from gatewayd.config.shared_ports import sharing_port
from gatewayd.doctor.account import READ, WRITE, Account
from gatewayd.doctor.finding import Finding, failure, ok
from gatewayd.link.holders import Holder, find_holders
from gatewayd.link.ports import Port, named_port
from gatewayd.store.lock import LockHolder


@dataclass(frozen=True, slots=True)
class PortFacts:
    """Facts about a device's port; `mode` is None if it does not exist."""

    port: Port
    mode: int | None
    obstacle: str = ""
    group: str = "dialout"
    holder: Holder | None = None
    shared_with: tuple[str, ...] = ()


def examine_ports(devices: Sequence[Device], account: Account, daemon: LockHolder) -> Iterator[Finding]:
    """Check all ports, without opening any."""
    shared = {device.name: sharing_port(device, devices) for device in devices}
    paths = {device.name: device.link.uart for device in devices if isinstance(device.link, UartSettings)}
    ports = {name: named_port(path) for name, path in paths.items()}
    holders = find_holders({port.node for port in ports.values()})
    for name, port in ports.items():
        facts = _facts(port, account, holders.get(port.node))
        others = tuple(other.name for other in shared[name])
        yield judge_port(name, paths[name], replace(facts, shared_with=others), daemon)


def judge_port(subject: str, path: str, facts: PortFacts, daemon: LockHolder) -> Finding:
    """Judge a device's port."""
    port = facts.port
    if facts.mode is None:
        hint = "plug it in; `gatewayctl scan uart` lists what is there"
        return failure(subject, f"{path} does not exist", code="link_missing", hint=hint)
    if not stat.S_ISCHR(facts.mode):
        hint = "`gatewayctl scan uart` lists the ports"
        return failure(subject, f"{path} is not a port", code="link_error", hint=hint)
    if facts.obstacle:
        group = facts.group
        hint = f"`usermod -aG {group} USER` adds the user to the port's group; then restart gatewayd"
        return failure(subject, facts.obstacle, code="link_denied", hint=hint)
    if (taken := _taken(subject, path, facts, daemon)) is not None:
        return taken
    use = ", in use by gatewayd" if facts.holder is not None else ""
    leads = f" (now {port.node})" if port.node != path else ""
    lasting = f"; its stable name is {port.name}" if port.name != path else ""
    return ok(subject, f"{path}{leads} is there, {port.kind.value}{use}{lasting}")


def _taken(subject: str, path: str, facts: PortFacts, daemon: LockHolder) -> Finding | None:
    """Say who else uses the port; None: nobody."""
    if facts.shared_with:
        names, hint = (
            ", ".join(facts.shared_with),
            "name both by /dev/serial/by-path/…: see `gatewayctl scan uart`",
        )
        text = f"{path} leads to the same port as {names}: {facts.port.node}"
        return failure(subject, text, code="port_shared", hint=hint)
    if facts.holder is not None and facts.holder.pid != daemon.pid:
        hint = "stop that program; ModemManager can be configured to ignore a port"
        return failure(subject, f"{path} is in use by {facts.holder}", code="link_busy", hint=hint)
    if facts.port.is_console:
        hint = "remove console=… from the kernel command line"
        return failure(subject, f"{path} is the kernel's console", code="link_busy", hint=hint)
    return None


def _facts(port: Port, account: Account, holder: Holder | None) -> PortFacts:
    node = Path(port.node)
    try:
        status = node.stat()
        obstacle = account.obstacle(node, READ | WRITE)
        group = node.group()
    except FileNotFoundError:
        return PortFacts(port, None)
    except KeyError:  # the group has no name
        group = str(status.st_gid)
    return PortFacts(port, status.st_mode, obstacle, group, holder)
