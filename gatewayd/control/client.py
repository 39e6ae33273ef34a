"""The client side of the control socket, for gatewayctl. Blocking, because a person waits.

`async_client` is the same for an event loop.
"""

import array
import contextlib
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from gatewayd.codes import Code
from gatewayd.control.messages import Error, Message
from gatewayd.control.requests import Request
from gatewayd.errors import ConfigError, GatewaydError, HostError, RequestError

R = TypeVar("R", bound=Message)

# Long enough to decrypt and verify a push of 16 MiB and write it to an SD card.
ANSWER_TIMEOUT_S = 120.0
LINE_BYTES = 1 << 26  # far larger than any answer


class DaemonUnreachable(HostError):  # noqa: N818 - named for the condition
    """No daemon answers on the control socket."""

    default_code = "daemon_unreachable"


class ReloadRefused(ConfigError):  # noqa: N818 - named for the condition
    """The daemon's configuration file has mistakes; `mistakes` has each with file and line."""

    def __init__(self, error: Error) -> None:
        super().__init__("\n".join(error.mistakes) or error.message, hint=error.hint)
        self.mistakes = error.mistakes


class _Reply(BaseModel):
    """A success or failure whose result is not parsed yet."""

    result: dict[str, Any] | None = None
    error: Error | None = None


def ask(
    path: Path,
    request: Request,
    result: type[R],
    file: BinaryIO | None = None,
    *,
    timeout_s: float | None = None,
) -> R:
    """Send one request and return its answer.

    Raises DaemonUnreachable, or the daemon's own error as RequestError or ConfigError.
    """
    with closing(_connect(path)) as connection:
        connection.settimeout(timeout_s or ANSWER_TIMEOUT_S)
        return next(_answers(path, connection, request, result, file))


def subscribe(path: Path, request: Request, result: type[R]) -> Iterator[R]:
    """Send one request and yield answers until the caller stops.

    Raises DaemonUnreachable when the daemon exits.
    """
    with closing(_connect(path)) as connection:
        connection.settimeout(None)
        yield from _answers(path, connection, request, result, None)


def unreachable(path: Path, error: OSError) -> DaemonUnreachable:
    """Explain why connecting to the socket failed."""
    if isinstance(error, PermissionError):
        hint = "run as root, or join the group that owns it (see `ls -l`)"
        return DaemonUnreachable(f"permission denied for {path}", hint=hint)
    return DaemonUnreachable(
        f"no gatewayd answers on {path}: {error.strerror or error}",
        hint="is it running? --socket names another socket",
    )


def silent(path: Path, error: OSError) -> DaemonUnreachable:
    """Explain why no answer came on a connection."""
    return DaemonUnreachable(f"gatewayd on {path} does not answer: {error}")


def closed(path: Path) -> DaemonUnreachable:
    """Explain that the daemon ended the connection."""
    return DaemonUnreachable(f"gatewayd on {path} closed the connection", hint="see its log")


def read_answer(answer: bytes, result: type[R]) -> R:
    """Parse one line of the daemon's. Raises its error as RequestError or ConfigError."""
    try:
        reply = _Reply.model_validate_json(answer)
        if reply.error is None:
            return result.model_validate(reply.result)
    except ValidationError:
        raise HostError(
            f"cannot understand gatewayd's answer: {answer[:80]!r}",
            code="protocol_version",
            hint="are gatewayd and gatewayctl the same version? restart gatewayd after an upgrade",
        ) from None
    raise _error(reply.error)


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_TIMEOUT_S)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise unreachable(path, error) from error
    return connection


def _answers(
    path: Path, connection: socket.socket, request: Request, result: type[R], file: BinaryIO | None
) -> Iterator[R]:
    try:
        # A daemon that stops reading early may still have sent the reason.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            _send(connection, request.model_dump_json().encode() + b"\n", file)
        with connection.makefile("rb") as answers:
            while (answer := answers.readline(LINE_BYTES)).endswith(b"\n"):
                yield read_answer(answer, result)
    except OSError as error:
        raise silent(path, error) from error
    raise closed(path)


def _send(connection: socket.socket, line: bytes, file: BinaryIO | None) -> None:
    if file is not None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))]
        line = line[connection.sendmsg([line], rights) :]
    if line:
        connection.sendall(line)


def _error(error: Error) -> GatewaydError:
    if error.code == Code.BAD_CONFIGURATION:
        return ReloadRefused(error)
    return RequestError(error.message, code=error.code, hint=error.hint)
