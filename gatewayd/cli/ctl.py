"""`gatewayctl`: everything a person types. Each command lives in a module of its own name."""

import importlib
import sys

import click

from gatewayd import __version__
from gatewayd.cli.exits import REFUSED, exit_code
from gatewayd.errors import GatewaydError

# Command -> the module that holds it. Loaded on use: `gatewayctl keygen` need not import an MQTT client.
COMMANDS = {
    "check-config": "check_config",
    "demo": "demo",
    "doctor": "doctor",
    "keygen": "keygen",
    "pack": "pack",
    "publish": "publish",
    "scan": "scan",
    "simulate": "simulate",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands, alphabetically."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command, or None when there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gatewayd.cli.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="gatewayctl")
def cli() -> None:
    """Make, publish and try firmware for the devices behind a gatewayd gateway."""


def main() -> None:
    """Run gatewayctl; an error of ours becomes one line and an exit code, never a stack trace."""
    try:
        cli.main(prog_name="gatewayctl", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except GatewaydError as error:
        click.echo(f"gatewayctl: {error}", err=True)
        sys.exit(exit_code(error))
    except OSError as error:
        click.echo(f"gatewayctl: {error.filename or 'the system'}: {error.strerror or error}", err=True)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
