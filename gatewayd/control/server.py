"""The server side of the control socket.

What a client can cost is bounded: a request has at most 64 KiB and ten seconds to arrive, an answer must be
read within half a minute, and the number of connections is limited. Only the daemon's own user and group may
connect (0660).
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import structlog

from gatewayd.control.caller import Caller
from gatewayd.control.messages import Error
from gatewayd.control.parse import parse
from gatewayd.control.peer import Peer
from gatewayd.control.replies import Failure, Result, Success
from gatewayd.control.requests import MAX_REQUEST_BYTES, AnyRequest
from gatewayd.control.views import error_view
from gatewayd.errors import GatewaydError, HostError, RequestError

log = structlog.get_logger()

MAX_CONNECTIONS = 64
REQUEST_LIMIT_S = 10.0
ANSWER_LIMIT_S = 30.0
# After the system refused a connection, for instance because there are too many open files.
ACCEPT_PAUSE_S = 1.0
_MAX_DESCRIPTORS = 4  # one is used; the others are closed


class _Gone(Exception):  # noqa: N818 - named for the condition
    """The client is gone, or does not read."""


class Operations(Protocol):
    """Answers the requests. A GatewaydError becomes a Failure."""

    def answer(self, request: AnyRequest, caller: Caller) -> AsyncIterator[Result]:
        """Yield the answer, or the answers to a subscription."""


class ControlServer:
    """Listens on a Unix socket from `open` on, and answers while `run` runs."""

    def __init__(self, path: Path, operations: Operations) -> None:
        self._path = path
        self._operations = operations
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen. Raises HostError `control_socket_in_use` or `no_control_socket`."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._remove_stale()
            mask = os.umask(0o117)  # so that it is never open to others, not even for a moment
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(mask)
            listener.listen(MAX_CONNECTIONS)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise HostError(
                f"cannot listen on {self._path}: {error.strerror or error}",
                code="no_control_socket",
                hint="set gateway.control_socket to a path where the daemon may create a socket",
            ) from error
        except HostError:
            listener.close()
            raise
        self._socket = listener

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)

    async def run(self) -> None:
        """Serve connections until cancelled."""
        if self._socket is None:
            return
        connections: set[asyncio.Task[None]] = set()
        try:
            while True:
                # Not loop.sock_accept: it never yields while connections are waiting, and loses one that
                # arrives just as it is cancelled.
                await _readable(self._socket)
                try:
                    connection, _ = self._socket.accept()
                except BlockingIOError:
                    continue  # the client is gone
                except OSError as error:
                    log.warning("cannot accept a connection", reason=str(error))
                    await asyncio.sleep(ACCEPT_PAUSE_S)
                    continue
                connection.setblocking(False)
                task = asyncio.create_task(self._serve(connection, len(connections)), name="control")
                connections.add(task)
                task.add_done_callback(connections.discard)
                # A task that is cancelled before it starts closes nothing itself.
                task.add_done_callback(lambda _, connection=connection: connection.close())  # type: ignore[misc]
        finally:
            for task in connections:
                task.cancel()
            if connections:
                await asyncio.wait(connections)

    def _remove_stale(self) -> None:
        if not os.path.lexists(self._path):
            return
        if (
            not self._path.is_socket()
        ):  # connecting to a file is refused as well, and it is not ours to remove
            raise OSError(errno.EEXIST, "it exists and is not a socket")
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink(missing_ok=True)  # its daemon was killed
                return
            except BlockingIOError:
                pass  # its daemon is busy
        raise HostError(
            f"another gatewayd answers on {self._path}",
            code="control_socket_in_use",
            hint="give this one a gateway.control_socket of its own",
        )

    async def _serve(self, connection: socket.socket, others: int) -> None:
        peer = Peer.of(connection)
        try:
            _check_room(others)
            line = await _receive_request(connection, peer)
            await self._answer(connection, parse(line), peer)
        except _Gone as gone:
            log.debug("a control connection ended", reason=str(gone), pid=peer.pid, user=peer.name)
        except GatewaydError as error:
            with contextlib.suppress(_Gone):
                await _send(connection, Failure(error=error_view(error)))
        except Exception:
            log.exception("this is a defect in gatewayd, please report it", user=peer.name)
            internal = Error(code="internal", message="internal error in gatewayd", hint="see its log")
            with contextlib.suppress(_Gone):
                await _send(connection, Failure(error=internal))
        finally:
            peer.close()
            connection.close()

    async def _answer(self, connection: socket.socket, request: AnyRequest, peer: Peer) -> None:
        """Send answers until there are no more or the client disconnects."""
        sending = asyncio.create_task(self._send_answers(connection, request, peer))
        hanging_up = asyncio.create_task(_until_hung_up(connection))
        try:
            await asyncio.wait([sending, hanging_up], return_when=asyncio.FIRST_COMPLETED)
            # Only a subscription ends when its client disconnects; any other request is completed.
            if not sending.done() and request.op != "watch":
                await asyncio.wait([sending])
        finally:
            for task in (sending, hanging_up):
                task.cancel()
            await asyncio.wait([sending, hanging_up])
        if not sending.cancelled():
            sending.result()

    async def _send_answers(self, connection: socket.socket, request: AnyRequest, peer: Peer) -> None:
        async with contextlib.aclosing(self._operations.answer(request, peer)) as answers:  # type: ignore[type-var]
            async for result in answers:
                await _send(connection, Success(result=result))


def _check_room(others: int) -> None:
    if others >= MAX_CONNECTIONS:
        raise RequestError(
            f"gatewayd is already serving {others} connections",
            code="busy",
            hint="end a `gatewayctl watch` that is not needed, or try again",
        )


async def _receive_request(connection: socket.socket, peer: Peer) -> bytes:
    """Read up to the first newline, keeping descriptors. Raises RequestError, _Gone."""
    try:
        async with asyncio.timeout(REQUEST_LIMIT_S):
            return await _receive_line(connection, peer)
    except TimeoutError:
        raise _Gone("no request came in time") from None
    except OSError as error:
        raise _Gone(str(error)) from None


async def _receive_line(connection: socket.socket, peer: Peer) -> bytes:
    received = bytearray()
    while b"\n" not in received:
        await _readable(connection)
        data, descriptors, flags, _ = socket.recv_fds(connection, 4096, _MAX_DESCRIPTORS)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        peer.files += descriptors
        if flags & socket.MSG_CTRUNC or len(peer.files) > _MAX_DESCRIPTORS:
            raise RequestError("too many files were attached", code="bad_request")
        if not data:
            raise ConnectionResetError("the client disconnected")
        received += data
        if len(received) > MAX_REQUEST_BYTES:
            raise RequestError(f"a request has at most {MAX_REQUEST_BYTES} bytes", code="bad_request")
    return bytes(received[: received.index(b"\n")])


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


async def _until_hung_up(connection: socket.socket) -> None:
    """Return when the client disconnects or sends too much; what it sends is dropped."""
    dropped_bytes = 0
    with contextlib.suppress(OSError):
        while dropped_bytes <= MAX_REQUEST_BYTES:
            await _readable(connection)
            data = connection.recv(4096)
            if not data:
                return
            dropped_bytes += len(data)


async def _send(connection: socket.socket, reply: Success | Failure) -> None:
    """Send a reply. Raises _Gone if it is not read in time."""
    line = reply.model_dump_json().encode() + b"\n"
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            await asyncio.get_running_loop().sock_sendall(connection, line)
    except TimeoutError:
        raise _Gone("the answer was not read in time") from None
    except OSError as error:
        raise _Gone(str(error)) from None
