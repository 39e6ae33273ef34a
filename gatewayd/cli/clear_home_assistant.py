"""`gatewayctl fleet clear-home-assistant`: a gateway that is gone disappears from Home Assistant."""

import asyncio
import re
from pathlib import Path

import click

from gatewayd.cli.formatting import echo, plural, printable
from gatewayd.cli.options import account_options, config_option, json_option
from gatewayd.cli.report import GatewayForgotten, HomeAssistantCleared
from gatewayd.config import Settings, load
from gatewayd.config.model import NAME_PATTERN
from gatewayd.config.model.mqtt import HomeAssistant
from gatewayd.mqtt.clearing import clear
from gatewayd.mqtt.home_assistant import discovery_filter
from gatewayd.mqtt.visitor import Account, visitor


@click.command("clear-home-assistant")
@config_option("A configuration that names the broker.")
@click.option("--gateway", metavar="ID", help="The gateway to remove. [default: the configuration's]")
@click.option(
    "--prefix", help="Home Assistant's discovery prefix. [default: the configuration's, or homeassistant]"
)
@account_options
@json_option
def command(
    config: Path, gateway: str | None, prefix: str | None, account: Account | None, as_json: bool
) -> None:
    """Remove a gateway and its devices from Home Assistant.

    Empties what the broker retains for its discovery: for a gateway that is gone, or before the package is
    purged. A gateway that runs with mqtt.home_assistant publishes it again; one where that is switched off by
    `reload` has removed it already.
    """
    if gateway is not None and not re.fullmatch(NAME_PATTERN, gateway):
        raise click.UsageError("--gateway: expected 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    settings = load(config)
    in_force = settings.mqtt.home_assistant
    one = gateway or settings.gateway.id
    topic_filter = discovery_filter(discovery_prefix(settings, prefix), one)
    topics = asyncio.run(clear(visitor(settings.mqtt, account=account), [topic_filter]))
    if in_force is not None and one == settings.gateway.id:
        click.echo(
            f"warning: mqtt.home_assistant is on in {config}: with its next connection gatewayd publishes it"
            " again",
            err=True,
        )
    print_emptied(HomeAssistantCleared(gateway=one, topics=list(topics)), as_json=as_json)


def print_emptied(report: HomeAssistantCleared | GatewayForgotten, *, as_json: bool) -> None:
    """Print which topics are empty now."""
    if as_json:
        click.echo(report.model_dump_json())
        return
    for topic in report.topics:
        echo(printable(topic))
    said = f"{plural(len(report.topics), 'message')} emptied" if report.topics else "nothing was retained"
    echo(f"{report.gateway}: {said}")


def discovery_prefix(settings: Settings, prefix: str | None) -> str:
    """Return the prefix that the command line names, or else that in force, or else Home Assistant's own."""
    if prefix is None:
        return (settings.mqtt.home_assistant or HomeAssistant()).prefix
    try:
        return HomeAssistant(prefix=prefix).prefix
    except ValueError:
        raise click.UsageError("--prefix: expected a topic such as homeassistant, without + or #") from None
