"""`gatewayd-web`: the page's entry point."""

import asyncio
import ipaddress
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatewayd import __version__, log
from gatewayd.cli.exits import exit_code
from gatewayd.cli.options import DEFAULT_SOCKET, SOCKET_VARIABLE
from gatewayd.cli.output import run_program
from gatewayd.errors import GatewaydError
from gatewayd.systemd.notify import from_environment

if TYPE_CHECKING:
    from gatewayd.web.server import WebSettings

DEFAULT_LISTEN = "127.0.0.1:8463"
CREDENTIAL = "gatewayd-web.passwords"


class _Address(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """`ADDRESS:PORT`; a name would have to be resolved, and might then be another address."""

    name = "ADDRESS:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """See click."""
        host, _, port = str(value).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            if host != "localhost":
                ipaddress.ip_address(host)
            if not 0 <= int(port) <= 65535:  # noqa: PLR2004 - the last port
                raise ValueError(port)  # noqa: TRY301 - one answer for all that can be wrong
        except ValueError:
            self.fail(
                f"{value!r} is not an address and a port, such as {DEFAULT_LISTEN} or [::1]:8463", param, ctx
            )
        return host, int(port)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket",
    "control_socket",
    type=click.Path(path_type=Path),
    envvar=SOCKET_VARIABLE,
    default=DEFAULT_SOCKET,
    show_default=True,
    help="The daemon's control socket.",
)
@click.option(
    "--listen",
    type=_Address(),
    default=DEFAULT_LISTEN,
    show_default=True,
    help="Where to serve the page. Port 0 is any that is free.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help=f"Who may sign in; see `gatewayctl web-password`. [default: credential {CREDENTIAL}]",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="Another name of this page: a proxy's, or this machine's in the network. Repeat it for more.",
)
@click.option(
    "--user-header",
    metavar="HEADER",
    help="Where a proxy names the person: X-Remote-User-Name, for instance. It gives no rights.",
)
@click.option("--verbose", is_flag=True, help="Log at debug level.")
@click.version_option(__version__, prog_name="gatewayd-web")
def command(
    control_socket: Path,
    listen: tuple[str, int],
    password_file: Path | None,
    allowed_hosts: tuple[str, ...],
    user_header: str | None,
    *,
    verbose: bool,
) -> None:
    """Show the gateway's devices on a web page, and let people who sign in control their updates.

    Without a password file the page is read only, and listens on this machine only. It uses the control
    socket, as gatewayctl does. Runs in the foreground until SIGTERM.
    """
    log.configure(logging.DEBUG if verbose else logging.INFO)
    try:
        from gatewayd.web.server import WebSettings, check  # noqa: PLC0415 - the manual is made without aiohttp
    except ImportError as error:
        raise click.ClickException(
            f"{error.name} is missing: install python3-aiohttp, or gatewayd[web]"
        ) from error
    host, port = listen
    settings = WebSettings(
        control_socket, host, port, password_file or _credential(), allowed_hosts, user_header
    )
    try:
        check(settings)
        asyncio.run(_serve(settings))
    except GatewaydError as error:
        _report(logging.ERROR, str(error), error.code)
        from_environment().status(f"{error} ({error.code})")
        sys.exit(exit_code(error))


def main() -> None:
    """Run gatewayd-web. Only --help and --version print to standard output."""
    run_program("gatewayd-web", lambda: command.main(prog_name="gatewayd-web"), needs_output=False)


async def _serve(settings: "WebSettings") -> None:
    from gatewayd.web.server import serve  # noqa: PLC0415 - as above

    notifier = from_environment()

    def tell(address: str) -> None:
        _report(
            logging.INFO, f"the page is at {address}" + ("" if settings.password_file else " (read only)")
        )
        notifier.ready()

    serving = asyncio.create_task(serve(settings, tell))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    notifier.stopping()
    if not serving.cancelled():
        serving.result()


def _credential() -> Path | None:
    """Return the password file that systemd passed to the service, if there is one."""
    path = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"), CREDENTIAL)
    return path if path.exists() else None


def _report(level: int, text: str, code: str | None = None) -> None:
    if log.is_journal():
        log.write(level, text, code)
    else:
        click.echo(f"gatewayd-web: {text}", err=True)


if __name__ == "__main__":
    main()
