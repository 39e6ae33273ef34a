"""`gatewayctl`: everything a person types. Each command lives in a module of its own name."""

import importlib
import sys
from pathlib import Path

import click

from gatewayd import __version__
from gatewayd.cli.exits import REFUSED, exit_code
from gatewayd.cli.formatting import printable
from gatewayd.cli.options import SOCKET_VARIABLE
from gatewayd.cli.output import OutputLost, run
from gatewayd.errors import GatewaydError, HostError

# Command -> module and name in it. Loaded on use: `gatewayctl keygen` need not import an MQTT client.
COMMANDS = {
    "approve": "commands.approve",
    "cancel": "commands.cancel",
    "check-config": "check_config.command",
    "completion": "completion.command",
    "config": "config.command",
    "demo": "demo.command",
    "devices": "devices.command",
    "doctor": "doctor.command",
    "explain": "explain.command",
    "fleet": "fleet.group",
    "job": "jobs.job",
    "jobs": "jobs.jobs",
    "keygen": "keygen.command",
    "pack": "pack.command",
    "pause": "commands.pause",
    "publish": "publish.command",
    "pin": "pin.command",
    "push": "commands.push",
    "reload": "commands.reload",
    "resume": "commands.resume",
    "retry": "commands.retry",
    "scan": "scan.command",
    "simulate": "simulate.command",
    "watch": "watch.command",
    "withdraw": "withdraw.command",
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
        module, _, name = COMMANDS[cmd_name].partition(".")
        command: click.Command = getattr(importlib.import_module(f"gatewayd.cli.{module}"), name)
        return command


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--socket",
    "control_socket",
    type=click.Path(path_type=Path),
    envvar=SOCKET_VARIABLE,
    help="Where the daemon listens, for all commands that ask it.",
)
@click.version_option(__version__, prog_name="gatewayctl")
def cli(control_socket: Path | None) -> None:
    """See and steer the updates of the devices behind a gatewayd gateway; make and publish firmware."""


def main() -> None:
    """Run gatewayctl; what goes wrong becomes one line and an exit code, never a stack trace."""
    run("gatewayctl", _run)


def _run() -> None:
    try:
        cli.main(prog_name="gatewayctl", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except GatewaydError as error:
        _tell(error)
        sys.exit(exit_code(error))
    except OutputLost:
        raise
    except OSError as error:
        what = error.strerror or str(error)
        _tell(HostError(f"{error.filename}: {what}" if error.filename else what))
        sys.exit(REFUSED)


def _tell(error: GatewaydError) -> None:
    """Print one line for people, or an object with --json."""
    if "--json" in sys.argv:
        from gatewayd.cli.report import CommandFailed  # noqa: PLC0415 - only now is it needed

        click.echo(CommandFailed.of(error).model_dump_json())
        return
    for line in str(error).splitlines():
        click.echo(f"gatewayctl: {printable(line)}", err=True)


if __name__ == "__main__":
    main()
