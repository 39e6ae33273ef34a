"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from gatewayd.errors import GatewaydError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_SOCKET = Path("/run/gatewayd/control.sock")
SOCKET_VARIABLE = "GATEWAYD_SOCKET"
# Who presses the tab key waits for no daemon that hangs.
_COMPLETION_S = 1.0


def json_option(function: F) -> F:
    """`--json`, as `as_json`; errors are then JSON, too."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def socket_option(function: F) -> F:
    """`--socket`, as `control_socket`: of the command, or of gatewayctl, or from the environment."""

    def choose(context: click.Context, _: click.Parameter, value: Path | None) -> Path:
        path: Path = value or context.find_root().params.get("control_socket") or DEFAULT_SOCKET
        return path

    return click.option(
        "--socket",
        "control_socket",
        type=click.Path(path_type=Path),
        callback=choose,
        help=f"Where the daemon listens. [default: {DEFAULT_SOCKET}, or ${SOCKET_VARIABLE}]",
    )(function)


def device_argument(name: str, **options: Any) -> Callable[[F], F]:
    """An argument that is a device's name; shells complete it when the daemon answers."""
    return click.argument(name, shell_complete=_device_names, **options)


def _device_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from gatewayd.control.client import ask  # noqa: PLC0415 - the options are needed before anything is asked
    from gatewayd.control.messages import Devices, DevicesResult  # noqa: PLC0415

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
