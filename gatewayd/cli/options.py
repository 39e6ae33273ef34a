"""Options that several commands share."""

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from gatewayd.config import Host
    from gatewayd.mqtt.visitor import Account

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG = Path("/etc/gatewayd/config.yaml")
DEFAULT_SOCKET = Path("/run/gatewayd/control.sock")
SOCKET_VARIABLE = "GATEWAYD_SOCKET"
# Any other would do as well.
STAND_IN_MACHINE_ID = "0" * 32
# Completion must not hang if the daemon does.
_COMPLETION_S = 1.0


class Fraction(click.FloatRange):
    """A number within bounds. click alone would accept `nan`, which passes every bounds check."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def json_option(function: F) -> F:
    """`--json`, as `as_json`; errors are then JSON too."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


# The loader says why a file cannot be read, as of any other mistake; click would call that wrong usage.
_FILE = click.Path(path_type=Path, readable=False)


def config_option(about: str) -> Callable[[F], F]:
    """`--config`, as `config`; `about` is the help text."""
    return click.option("--config", type=_FILE, default=DEFAULT_CONFIG, show_default=True, help=about)


def config_file(function: Callable[..., None]) -> Callable[..., None]:
    """The configuration as an argument or with `--config`, as `path`."""

    @functools.wraps(function)
    def choose(file: Path | None, option: Path | None, **others: Any) -> None:
        if file and option:
            raise click.UsageError("give the file either as an argument or with --config, not both")
        function(path=file or option or DEFAULT_CONFIG, **others)

    of_option = click.option("--config", "option", type=_FILE, help=f"[default: {DEFAULT_CONFIG}]")
    return click.argument("file", required=False, type=_FILE)(of_option(choose))


def host_options(function: F) -> F:
    """`--host` and `--machine-id`, as `host`: the machine a configuration is for; None: this one."""

    def choose(context: click.Context, _: click.Parameter, name: str | None) -> "Host | None":
        from gatewayd.config import Host  # noqa: PLC0415 - many commands read no configuration
        from gatewayd.config.model import NAME_PATTERN  # noqa: PLC0415 - as above

        machine_id: str | None = context.params.pop("machine_id", None)
        if name is None:
            if machine_id is not None:
                raise click.UsageError("--machine-id requires --host")
            return None
        if not re.fullmatch(NAME_PATTERN, name):
            raise click.BadParameter("expected 1 to 64 of the characters A-Z a-z 0-9 . _ -")
        return Host(name, machine_id or STAND_IN_MACHINE_ID, is_here=False)

    def machine(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
        if value is not None and not re.fullmatch("[0-9a-f]{32}", value):
            raise click.BadParameter("expected 32 of the digits 0-9 a-f, as ${machine_id} gives them")
        return value

    of_host = click.option(
        "--host", metavar="NAME", callback=choose, help="Read it as for this host: ${hostname} becomes NAME."
    )
    of_machine = click.option(
        "--machine-id",
        metavar="ID",
        callback=machine,
        is_eager=True,
        help="With --host: the value of ${machine_id} there.  [default: zeros]",
    )
    return of_machine(of_host(function))


def account_options(function: F) -> F:
    """`--username` and `--password-file`, as `account`: whom to log in as instead of the gateway's user."""

    def choose(context: click.Context, _: click.Parameter, username: str | None) -> "Account | None":
        from gatewayd.config.files import parse_password  # noqa: PLC0415 - many commands need no broker
        from gatewayd.mqtt.visitor import Account  # noqa: PLC0415 - as above

        file: Path | None = context.params.pop("password_file", None)
        if username is None:
            if file is not None:
                raise click.UsageError("--password-file goes with --username")
            return None
        return Account(username, parse_password(file.read_bytes()) if file else None)

    of_username = click.option(
        "--username",
        "account",
        metavar="NAME",
        callback=choose,
        help="Log in to the broker as this user.  [default: mqtt.username]",
    )
    of_file = click.option(
        "--password-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        is_eager=True,
        help="With --username: the file with its password.",
    )
    return of_file(of_username(function))


def socket_option(function: F) -> F:
    """`--socket`, as `control_socket`: from the command, from gatewayctl or from the environment."""

    def choose(context: click.Context, _: click.Parameter, value: Path | None) -> Path:
        path: Path = value or context.find_root().params.get("control_socket") or DEFAULT_SOCKET
        return path

    return click.option(
        "--socket",
        "control_socket",
        type=click.Path(path_type=Path),
        callback=choose,
        help=f"The daemon's control socket. [default: {DEFAULT_SOCKET}, or ${SOCKET_VARIABLE}]",
    )(function)


def device_argument(name: str, **options: Any) -> Callable[[F], F]:
    """An argument that is a device's name; shells complete it while the daemon answers."""
    return click.argument(name, shell_complete=_device_names, **options)


def _device_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from gatewayd.control.client import ask  # noqa: PLC0415 - the options are needed before anything is asked
    from gatewayd.control.messages import DevicesResult  # noqa: PLC0415 - as above
    from gatewayd.control.requests import Devices  # noqa: PLC0415 - as above

    path = context.params.get("control_socket") or DEFAULT_SOCKET
    try:
        devices = ask(path, Devices(), DevicesResult, timeout_s=_COMPLETION_S).devices
    except GatewaydError:
        return []
    return [
        CompletionItem(device.name, help=device.state)
        for device in devices
        if device.name.startswith(incomplete)
    ]
