"""`gatewayctl fleet forget`: what a gateway that is gone, or has another id now, left at the broker."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import click

from gatewayd.cli.clear_home_assistant import discovery_prefix, print_emptied
from gatewayd.cli.options import account_options, config_option, json_option
from gatewayd.cli.report import GatewayForgotten
from gatewayd.config import load
from gatewayd.config.model import NAME_PATTERN
from gatewayd.mqtt.clearing import clear
from gatewayd.mqtt.home_assistant import discovery_filter
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.topics import FleetTopics, GatewayTopics, Presence
from gatewayd.mqtt.visitor import Account, visitor


@click.command("forget")
@click.argument("gateway", metavar="ID")
@config_option("A configuration that names the broker and mqtt.status_topic.")
@click.option(
    "--prefix", help="Home Assistant's discovery prefix. [default: the configuration's, or homeassistant]"
)
@click.option("--force", is_flag=True, help="Also if the broker says that the gateway is online.")
@account_options
@json_option
def command(
    gateway: str, config: Path, prefix: str | None, account: Account | None, *, force: bool, as_json: bool
) -> None:
    """Remove a gateway that is gone, or whose gateway.id was changed, from the broker.

    Empties what it retained: its status and those of its devices, so that `fleet status` and what else reads
    them no longer shows it, and what Home Assistant discovers. A gateway that is online is refused: it would
    not publish all of this again before its next connection.
    """
    if not re.fullmatch(NAME_PATTERN, gateway):
        raise click.UsageError("ID: expected 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    settings = load(config)
    topics = GatewayTopics.of(settings, gateway)

    def refuse_who_is_there(found: Mapping[str, bytes]) -> None:
        if found.get(topics.status) == Presence.ONLINE.payload and not force:
            raise BrokerError(
                f"the broker says that {gateway} is online",
                code="gateway_online",
                hint="stop it first; if it is gone all the same: --force",
            )

    filters = [discovery_filter(discovery_prefix(settings, prefix), gateway)]
    # Where the topic does not name the gateway, the statuses are those of the one that is left.
    if gateway == settings.gateway.id or FleetTopics(settings, gateway).gateway == gateway:
        filters += [topics.status, topics.gateway, topics.marker, topics.every_device]
    login = visitor(settings.mqtt, account=account)
    emptied = asyncio.run(clear(login, filters, check=refuse_who_is_there))
    report = GatewayForgotten(gateway=gateway, topics=list(emptied))
    print_emptied(report, as_json=as_json)
