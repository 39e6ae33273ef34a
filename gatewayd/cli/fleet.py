"""`gatewayctl fleet status`: versions, and devices that are stuck, at all gateways of a broker."""

import asyncio
import functools
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from gatewayd.cli import clear_home_assistant, forget_gateway
from gatewayd.cli.exits import DONE, REFUSED
from gatewayd.cli.formatting import because, columns, echo, indented, is_on_terminal, plural, printable
from gatewayd.cli.groups import Group
from gatewayd.cli.options import Fraction, account_options, config_option, json_option
from gatewayd.config import load
from gatewayd.config.model import NAME_PATTERN
from gatewayd.fleet.selection import Selection
from gatewayd.fleet.status import QUIET_S, FleetDevice, FleetGateway, FleetStatus, read_fleet
from gatewayd.mqtt.visitor import Account
from gatewayd.timestamps import utc_text

# So that a fleet of 200 gateways fits a screen: more of them, or of what is stuck, are counted. On a terminal
# that is lower than what so many take, fewer.
SCREEN_ROWS, LEAST_ROWS = 20, 4
# Headings, empty lines, what is counted, the summary, the next prompt.
_OTHER_LINES = 11


@click.group("fleet", cls=Group)
def group() -> None:
    """Commands for all gateways of a broker."""


group.add_command(clear_home_assistant.command)
group.add_command(forget_gateway.command)


def _selection_options(function: Callable[..., None]) -> Callable[..., None]:
    """`--version`, `--stuck` and `--offline`, as `selection`."""

    @functools.wraps(function)
    def choose(version: str | None, *, stuck: bool, offline: bool, **others: Any) -> None:
        function(selection=Selection(stuck=stuck, offline=offline, version=version), **others)

    for option in (
        click.option("--offline", is_flag=True, help="Only gateways that are away."),
        click.option("--stuck", is_flag=True, help="Only devices that are stuck, and their gateways."),
        click.option(
            "--version", metavar="M.m.p", help="Only devices that run this version, and their gateways."
        ),
    ):
        choose = option(choose)
    return choose


@group.command("status")
@config_option("A configuration that names the broker and mqtt.status_topic.")
@click.option("--gateway", metavar="ID", help="Only this gateway.")
@click.option(
    "--app", metavar="ID", help="Only devices of this application, and the gateways that have them."
)
@_selection_options
@click.option(
    "--wait",
    "quiet_s",
    metavar="SECONDS",
    type=Fraction(0.1, 60),
    default=QUIET_S,
    show_default=True,
    help="Seconds without news before the snapshot counts as complete.",
)
@account_options
@json_option
def status(
    config: Path,
    gateway: str | None,
    app: str | None,
    selection: Selection,
    quiet_s: float,
    account: Account | None,
    as_json: bool,
) -> None:
    """Show what all gateways report to the broker: versions, and devices that are stuck and why.

    Exits with 1 if a gateway is away, refuses its configuration or has trouble of its own, or if a device is
    stuck. A device is stuck if its update failed, if it refuses what was published, if it does not answer, or
    if it waits because its last attempt failed; not if it waits for a person (offered, paused) or is being
    updated. Of a large fleet only what needs attention is listed; --stuck, --offline, --version and --json
    list all that they select.
    """
    if gateway is not None and not re.fullmatch(NAME_PATTERN, gateway):
        raise click.UsageError("--gateway: expected 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    fleet = asyncio.run(read_fleet(load(config), gateway=gateway, app=app, quiet_s=quiet_s, account=account))
    found = selection.of(fleet)
    if as_json:
        click.echo(found.model_dump_json())
    else:
        _print_report(found, rows=screen_rows(found) if selection.is_everything else sys.maxsize)
    sys.exit(DONE if found.ok else REFUSED)


def screen_rows(found: FleetStatus, height: int | None = None) -> int:
    """Return how many rows each part may have, for a terminal of this height. None: the one that is there."""
    if height is None:
        height = shutil.get_terminal_size().lines if is_on_terminal() else sys.maxsize
    rows = SCREEN_ROWS
    while rows > LEAST_ROWS and _height(found, rows) > height:
        rows -= 1
    return rows


def _height(found: FleetStatus, rows: int) -> int:
    """Return how many lines that takes, none of which is folded."""
    gateways = _listed(found, rows)
    problems = sum(bool(gateway.problem) for gateway in gateways)
    stuck = min(len(list(_stuck(found))), rows // 2)
    versions = min(len(_running(found)), rows // 2)
    return len(gateways) + problems + versions + 2 * stuck + _OTHER_LINES


def _listed(found: FleetStatus, rows: int) -> tuple[FleetGateway, ...]:
    """Return the gateways that are listed: all of a few, and otherwise those that need attention."""
    if len(found.gateways) <= rows:
        return found.gateways
    return tuple(gateway for gateway in found.gateways if gateway.needs_somebody)[:rows]


def _print_report(found: FleetStatus, *, rows: int) -> None:
    """Print gateways, versions and what is stuck, each with at most so many rows."""
    listed = _listed(found, rows)
    _print_table(
        ["GATEWAY", "STATUS", "GATEWAYD", "DEVICES", "STATES"],
        map(_gateway_row, listed),
        [gateway.problem or None for gateway in listed],
    )
    if left := len(found.gateways) - len(listed):
        troubled = sum(gateway.needs_somebody for gateway in found.gateways) - len(listed)
        echo(f"and {plural(left, 'other gateway')}, of which {troubled or 'none'} need attention")
    echo()
    _print_versions(found, rows)
    _print_stuck(found, rows)
    echo(indented(_summary(found), 0))


def _running(found: FleetStatus) -> Counter[tuple[str, str]]:
    """Count devices by application and version."""
    return Counter(
        (device.app_id or "-", device.installed_version or "-")
        for gateway in found.gateways
        for device in gateway.devices
    )


def _print_versions(found: FleetStatus, rows: int) -> None:
    """Print who runs what; of more than fit, the most frequent."""
    running = _running(found)
    listed = running.most_common(max(rows // 2, 1))
    _print_table(
        ["APP", "VERSION", "DEVICES"],
        ([app, version, str(count)] for (app, version), count in sorted(listed)),
    )
    if len(running) > len(listed):
        devices = running.total() - sum(count for _, count in listed)
        echo(f"and {plural(len(running) - len(listed), 'other version')} on {plural(devices, 'device')}")
    echo()


def _print_table(heading: list[str], rows: Iterable[list[str]], below: Iterable[str | None] = ()) -> None:
    """Print a table; a row with an explanation in `below` is red, with that under it."""
    first, *lines = columns([heading, *([printable(cell) for cell in row] for row in rows)])
    echo(first, bold=True)
    for line, more in zip_longest(lines, below):
        echo(line, fg="red" if more is not None else None)
        if more:
            echo(indented(printable(more)))


def _gateway_row(gateway: FleetGateway) -> list[str]:
    states = _counted(device.state for device in gateway.devices)
    return [gateway.name, gateway.status, gateway.version or "-", str(len(gateway.devices)), states]


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())


def _stuck(found: FleetStatus) -> Iterator[tuple[FleetGateway, FleetDevice]]:
    return ((gateway, one) for gateway in found.gateways for one in gateway.devices if one.stuck)


def _print_stuck(found: FleetStatus, rows: int) -> None:
    every = list(_stuck(found))
    if not every:
        return
    stuck = every[: max(rows // 2, 1)]  # each has a line for the reason
    _print_table(
        ["STUCK AT", "DEVICE", "INSTALLED", "LATEST", "STATE", "SINCE"],
        (_stuck_row(gateway, one) for gateway, one in stuck),
        [because(one.code, one.reason) for _, one in stuck],
    )
    if len(every) > len(stuck):
        echo(f"and {len(every) - len(stuck)} more: --stuck lists them")
    echo()


def _stuck_row(gateway: FleetGateway, device: FleetDevice) -> list[str]:
    since = utc_text(device.updated_at) if device.updated_at else "-"
    installed, latest = device.installed_version or "-", device.latest_version or "-"
    return [gateway.name, device.name, installed, latest, device.state, since]


def _summary(found: FleetStatus) -> str:
    states = _counted(gateway.status for gateway in found.gateways) or "none"
    devices = sum(len(gateway.devices) for gateway in found.gateways)
    stuck = sum(1 for _ in _stuck(found))
    return (
        f"{plural(len(found.gateways), 'gateway')} at {found.broker}: {states};"
        f" {plural(devices, 'device')}, {stuck} stuck"
    )
