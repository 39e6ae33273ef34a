"""A control server on a real Unix socket, in a thread with a loop of its own, before made-up operations."""

import array
import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gatewayd.control.caller import Caller
from gatewayd.control.messages import OutcomesResult
from gatewayd.control.peer import Peer
from gatewayd.control.replies import Result
from gatewayd.control.requests import AnyRequest
from gatewayd.control.server import ControlServer

DEADLINE_S = 60.0
NOTHING = OutcomesResult(outcomes=())


class FakeOperations:
    """Answers what it was given; an exception among that is raised. Keeps what it was asked."""

    def __init__(self, *answers: Result | Exception) -> None:
        self.answers = answers or (NOTHING,)
        self.requests: list[AnyRequest] = []
        self.files: list[int] = []

    async def answer(self, request: AnyRequest, caller: Caller) -> AsyncIterator[Result]:
        self.requests.append(request)
        assert isinstance(caller, Peer)
        self.files.append(len(caller.files))
        for answer in self.answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer


class WatchedOperations(FakeOperations):
    """Never ends; says when it began and when it was left."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.left = threading.Event()

    async def answer(self, request: AnyRequest, caller: Caller) -> AsyncIterator[Result]:  # noqa: ARG002 - the protocol's
        try:
            yield NOTHING
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            self.left.set()


@contextmanager
def serving(folder: Path, operations: FakeOperations) -> Iterator[Path]:
    """Give the path of a socket that is answered."""
    path = folder / "control.sock"
    server = ControlServer(path, operations)
    server.open()
    loop = asyncio.new_event_loop()
    task = loop.create_task(server.run())
    thread = threading.Thread(target=_run, args=(loop, task))
    thread.start()
    try:
        yield path
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(DEADLINE_S)
        server.close()
        assert not thread.is_alive()


def _run(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    with closing(loop):
        loop.run_until_complete(asyncio.wait([task]))
        others = asyncio.all_tasks(loop)
        if others:
            loop.run_until_complete(asyncio.wait(others))
        if not task.cancelled():
            task.result()


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(DEADLINE_S)
    connection.connect(str(path))
    return connection


def say(path: Path, said: bytes, *descriptors: int) -> bytes:
    """Send bytes as they are, with descriptors, and return all that comes back."""
    with closing(connect(path)) as connection:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            sent = connection.sendmsg([said], rights if descriptors else [])
            connection.sendall(said[sent:])
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough, and may have said why
        return hear(connection)


def say_and_go(path: Path, said: bytes) -> bytes:
    """Send bytes and say that no more will come; return what comes back."""
    with closing(connect(path)) as connection:
        try:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        return hear(connection)


def hear(connection: socket.socket) -> bytes:
    """Return what comes until the other end closes."""
    heard = b""
    try:
        while more := connection.recv(65536):
            heard += more
    except ConnectionResetError:
        pass  # closed with something of ours unread
    return heard


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
