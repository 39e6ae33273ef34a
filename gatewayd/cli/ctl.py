"""`gatewayctl`: the command group. COMMANDS maps each command to its module."""

import importlib
import sys
from pathlib import Path

import click

from gatewayd import __version__
from gatewayd.cli.exits import REFUSED, exit_code
from gatewayd.cli.formatting import printable
from gatewayd.cli.groups import Group
from gatewayd.cli.options import SOCKET_VARIABLE
from gatewayd.cli.output import OutputLost, run_program
from gatewayd.errors import GatewaydError, HostError

# What the commands are for -> command -> module and name in it. Imported on use: `gatewayctl keygen`
# need not load an MQTT client.
GROUPS = {
    "What is going on": {
        "devices": "devices.command",
        "watch": "watch.command",
        "jobs": "jobs.jobs",
        "job": "jobs.job",
        "metrics": "metrics.metrics",
        "notify": "notify.command",
        "explain": "explain.command",
        "fleet": "fleet.group",
    },
    "Updates": {
        "approve": "commands.approve",
        "retry": "commands.retry",
        "cancel": "commands.cancel",
        "pause": "commands.pause",
        "resume": "commands.resume",
        "push": "commands.push",
    },
    "Setting a gateway up": {
        "scan": "scan.command",
        "check-config": "check_config.command",
        "config": "config.command",
        "reload": "commands.reload",
        "doctor": "doctor.command",
        "pin": "pin.command",
        "web-password": "web_password.command",
        "completion": "completion.command",
    },
    "Making and publishing firmware": {
        "keygen": "keygen.command",
        "pack": "pack.command",
        "publish": "publish.command",
        "withdraw": "withdraw.command",
    },
    "Trying it out": {
        "demo": "demo.command",
        "simulate": "simulate.command",
    },
}
COMMANDS = {name: place for commands in GROUPS.values() for name, place in commands.items()}


class LazyGroup(Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the commands, alphabetically."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command, or None if there is none by that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(".")
        command: click.Command = getattr(importlib.import_module(f"gatewayd.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for."""
        widest = max(map(len, COMMANDS))
        limit = formatter.width - 6 - widest
        for title, names in GROUPS.items():
            with formatter.section(title):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                rows = [
                    (f"{name:{widest}}", command.get_short_help_str(limit))
                    for name, command in commands
                    if command
                ]
                formatter.write_dl(rows)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--socket",
    "control_socket",
    type=click.Path(path_type=Path),
    envvar=SOCKET_VARIABLE,
    help="The daemon's control socket, for all commands that use it.",
)
@click.version_option(__version__, prog_name="gatewayctl")
def cli(control_socket: Path | None) -> None:
    """Monitor and control the updates of a gatewayd gateway; build and publish firmware."""


def main() -> None:
    """Run gatewayctl; an error becomes one line and an exit code, never a stack trace."""
    run_program("gatewayctl", _run_command)


def _run_command() -> None:
    try:
        cli.main(prog_name="gatewayctl", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except GatewaydError as error:
        _print_error(error)
        sys.exit(exit_code(error))
    except OutputLost:
        raise
    except OSError as error:
        what = error.strerror or str(error)
        _print_error(HostError(f"{error.filename}: {what}" if error.filename else what))
        sys.exit(REFUSED)


def _print_error(error: GatewaydError) -> None:
    """Print one line for people, or a JSON object with --json."""
    if "--json" in sys.argv:
        from gatewayd.cli.report import CommandFailed  # noqa: PLC0415 - only now is it needed

        click.echo(CommandFailed.of(error).model_dump_json())
        return
    for line in str(error).splitlines():
        click.echo(f"gatewayctl: {printable(line)}", err=True)


if __name__ == "__main__":
    main()
