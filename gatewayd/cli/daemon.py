"""`gatewayd`: the daemon's entry."""

import asyncio
import faulthandler
import logging
import sys
from pathlib import Path

import click

from gatewayd import __version__, log
from gatewayd.cli.exits import exit_code
from gatewayd.config import ConfigErrors, load
from gatewayd.daemon import serve
from gatewayd.errors import GatewaydError

DEFAULT_CONFIG = Path("/etc/gatewayd/config.yaml")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="Configuration.",
)
@click.option("--verbose", is_flag=True, help="Log each step.")
@click.version_option(__version__, prog_name="gatewayd")
def main(config: Path, *, verbose: bool) -> None:
    """Bring firmware from MQTT to the devices of this gateway. Runs in the foreground until SIGTERM."""
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the log where it hung
    log.configure(logging.DEBUG if verbose else logging.INFO)
    try:
        settings = load(config)
        for warning in settings.warnings:
            click.echo(f"gatewayd: warning: {warning}", err=True)
        asyncio.run(serve(settings))
    except ConfigErrors as error:
        for mistake in error.mistakes:
            click.echo(f"gatewayd: {mistake}", err=True)
        sys.exit(exit_code(error))
    except GatewaydError as error:
        click.echo(f"gatewayd: {error}", err=True)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
