"""Checks of what the daemon has in force: whether it is what the file says, as the daemon itself reads it.

The daemon may see less than the person who runs the doctor: under systemd its sandbox hides /home and /root.
So it is asked to read the file and all that it names, and it says what a reload would find.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gatewayd.config import ConfigErrors, Gateway, Host
from gatewayd.config.fragments import read_all
from gatewayd.control.client import DaemonUnreachable, ask
from gatewayd.control.messages import CheckConfigResult, StatusResult
from gatewayd.control.requests import CheckConfig, Status
from gatewayd.doctor.finding import Finding, failure, ok, refused, warning
from gatewayd.errors import GatewaydError

_SUBJECT = "in force"
_RELOAD = "`gatewayctl reload` puts it into force"
_CORRECT = "correct it, then `gatewayctl reload`"
# More mistakes than a person corrects before asking again.
_MOST = 5


def examine_in_force(config: Path, control_socket: Path, status: StatusResult) -> Iterator[Finding]:
    """Check whether the daemon that answers on `control_socket` has `config` in force."""
    if not _is_same(config, Path(status.config_file)):
        text = f"gatewayd runs with {status.config_file}, not with {config.absolute()}"
        hint = f"examine that file, or start gatewayd with --config {config.absolute()}"
        yield warning(_SUBJECT, text, code="not_in_force", hint=hint)
        return
    try:
        check = ask(control_socket, CheckConfig(), CheckConfigResult)
    except GatewaydError as error:
        yield refused(_SUBJECT, error)
    else:
        yield from judge_in_force(check)


def examine_without_settings(config: Path, control_socket: Path | None = None) -> Iterator[Finding]:
    """For a file with mistakes: say what the daemon does meanwhile, if one answers."""
    control_socket = control_socket or find_control_socket(config)
    try:
        status = ask(control_socket, Status(), StatusResult)
    except DaemonUnreachable as error:
        text = f"{error.message}; it cannot start with this configuration"
        yield warning("daemon", text, code="daemon_unreachable", hint=error.hint)
    except GatewaydError as error:
        yield refused("daemon", error)
    else:
        yield from examine_in_force(config, control_socket, status)


def judge_in_force(check: CheckConfigResult) -> Iterator[Finding]:
    """Judge what the daemon would find at a reload."""
    kept = f"revision {check.revision} stays in force"
    if check.error is not None:
        mistakes = check.error.mistakes or (check.error.message,)
        for mistake in mistakes[:_MOST]:
            text = f"gatewayd refuses the file: {mistake.removesuffix('.')}; {kept}"
            yield failure(_SUBJECT, text, code=check.error.code, hint=check.error.hint or _CORRECT)
    elif not check.in_force:
        text = f"{check.file} was changed and not reloaded ({_changes(check)}); {kept}"
        yield warning(_SUBJECT, text, code="not_in_force", hint=_RELOAD)
    else:
        yield ok(_SUBJECT, f"gatewayd runs with this file, revision {check.revision}")


# Its default is the host name, which need not be a name for a gateway; here it does not matter.
_NAMED = {"id": "any"}


def find_control_socket(config: Path) -> Path:
    """Return the control socket that a file with mistakes names, or the default one."""
    try:
        root: Any = read_all(config, Host.here()).root
        written = root["gateway"]["control_socket"]
        context = {"folder": config.parent}
        return Gateway.model_validate(_NAMED | {"control_socket": written}, context=context).control_socket
    except (ConfigErrors, ValidationError, KeyError, TypeError):
        return Gateway.model_validate(_NAMED).control_socket


def _changes(check: CheckConfigResult) -> str:
    parts = [
        f"{word}: {', '.join(names)}"
        for word, names in (("added", check.added), ("changed", check.changed), ("removed", check.removed))
        if names
    ]
    return "; ".join([*parts, *(["mqtt changed"] if check.mqtt else [])]) or "settings changed"


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is gone, or closed to this user
        return one.absolute() == other
