"""`gatewayd`: the daemon's entry point."""

import asyncio
import faulthandler
import logging
import sys
from pathlib import Path

import click

from gatewayd import __version__, log
from gatewayd.cli.exits import exit_code
from gatewayd.cli.options import config_option
from gatewayd.cli.output import run_program
from gatewayd.config import ConfigErrors, load_at_start
from gatewayd.daemon import serve
from gatewayd.errors import GatewaydError
from gatewayd.systemd.notify import from_environment


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@config_option("Configuration file.")
@click.option("--verbose", is_flag=True, help="Log at debug level.")
@click.version_option(__version__, prog_name="gatewayd")
def command(config: Path, *, verbose: bool) -> None:
    """Deliver firmware from MQTT to the devices of this gateway. Runs in the foreground until SIGTERM."""
    faulthandler.enable()  # on the watchdog's SIGABRT, the stack in the log shows where it hung
    log.configure(logging.DEBUG if verbose else logging.INFO)
    try:
        settings = load_at_start(config)
        for warning in settings.warnings:
            _report(logging.WARNING, f"warning: {warning}")
        asyncio.run(serve(settings))
    except GatewaydError as error:
        mistakes = [str(one) for one in error.mistakes] if isinstance(error, ConfigErrors) else [str(error)]
        for mistake in mistakes:
            _report(logging.ERROR, mistake, error.code)
        from_environment().status(f"{mistakes[0]} ({error.code})")
        sys.exit(exit_code(error))


def main() -> None:
    """Run gatewayd. Only --help and --version print to standard output."""
    run_program("gatewayd", lambda: command.main(prog_name="gatewayd"), needs_output=False)


def _report(level: int, text: str, code: str | None = None) -> None:
    """Write a line to the journal if standard error goes there, otherwise to the terminal."""
    if log.is_journal():
        log.write(level, text, code)
    else:
        click.echo(f"gatewayd: {text}", err=True)


if __name__ == "__main__":
    main()
