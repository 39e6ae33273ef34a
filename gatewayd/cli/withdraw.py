"""`gatewayctl withdraw`: the broker's release of a topic is taken back."""

import asyncio
import re
from pathlib import Path

import click

from gatewayd.cli.formatting import echo, printable, size
from gatewayd.cli.options import account_options, config_option, json_option
from gatewayd.cli.publish import CHANNELS, MIB
from gatewayd.cli.report import Holder, Withdrawn
from gatewayd.codes import Code
from gatewayd.config import Settings, load
from gatewayd.errors import GatewaydError
from gatewayd.fleet.status import FleetStatus, read_fleet
from gatewayd.mqtt.login import PACKET_OVERHEAD_BYTES, BrokerError
from gatewayd.mqtt.visitor import Account, visitor
from gatewayd.mqtt.withdrawal import Withdrawal, withdraw
from gatewayd.ota.topic import Channel, OtaTopic


@click.command()
@config_option("The gateway's configuration: says where the broker is.")
@click.option("--app", required=True, help="The application, as app_id in the configuration.")
@click.option("--line", required=True, metavar="M.m", help="The major.minor whose release it is.")
@click.option("--channel", type=click.Choice(tuple(CHANNELS)), help="s: stable, u: unstable. [default: none]")
@account_options
@json_option
def command(
    config: Path, app: str, line: str, channel: str | None, account: Account | None, as_json: bool
) -> None:
    """Withdraw the release of an application, major.minor line and channel.

    Empties the broker's retained message at QoS 1: gateways that are connected forget the release, and those
    that are away do once they come back, as long as the broker keeps their session. Then says which devices
    held it: for which, by the gateways' last reports, a version of that line is the latest.
    """
    settings = load(config)
    topic = settings.mqtt.ota_topic.build(_topic(app, line, CHANNELS.get(channel or "", Channel.NONE)))
    limit = settings.mqtt.max_message_mib * MIB
    login = visitor(
        settings.mqtt, account=account, max_packet_bytes=PACKET_OVERHEAD_BYTES + limit, qos_0_bytes=limit
    )
    found = asyncio.run(withdraw(login, topic))
    fleet = asyncio.run(_fleet(settings, app, account))
    _print_result(
        Withdrawn(
            topic=topic,
            was_retained=found.was_retained,
            size=found.size_bytes,
            holders=_holders(fleet, line) if fleet else [],
        ),
        found,
        as_json=as_json,
    )


def _topic(app: str, line: str, channel: Channel) -> OtaTopic:
    number = re.fullmatch(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)", line)
    if number is None:
        raise click.UsageError(f"--line {line!r}: expected major.minor, as in 4.3")
    try:
        return OtaTopic(app, int(number[1]), int(number[2]), channel)
    except GatewaydError as error:
        raise click.UsageError(str(error)) from None


async def _fleet(settings: Settings, app: str, account: Account | None) -> FleetStatus | None:
    """Read what gateways report; None where there is nothing to read, or it may not be read."""
    try:
        return await read_fleet(settings, app=app, account=account)
    except BrokerError as error:
        if error.code != Code.NO_REPORTS:
            click.echo(f"warning: the gateways' reports cannot be read: {error}", err=True)
        return None


def _holders(fleet: FleetStatus, line: str) -> list[Holder]:
    return [
        Holder(
            gateway=gateway.name,
            device=device.name,
            state=device.state,
            installed_version=device.installed_version,
            latest_version=device.latest_version,
        )
        for gateway in fleet.gateways
        for device in gateway.devices
        if (device.latest_version or "").rpartition(".")[0] == line
    ]


def _print_result(withdrawn: Withdrawn, found: Withdrawal, *, as_json: bool) -> None:
    if as_json:
        click.echo(withdrawn.model_dump_json())
        return
    what = {
        True: f"withdrawn; {size(found.size_bytes or 0)} were retained",
        False: "nothing was retained there",
        None: "withdrawn (whether something was retained cannot be read with this user)",
    }[found.was_retained]
    echo(f"{withdrawn.topic}: {what}")
    for holder in withdrawn.holders:
        text = f"{holder.gateway}: {holder.device} {holder.state}, runs {holder.installed_version or '-'}"
        echo(printable(f"{text}, latest {holder.latest_version}"))
