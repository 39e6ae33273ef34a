"""Files come as open descriptors; whatever comes, it is read within its limit and closed."""

import array
import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from lab.control_schema import check_reply
from lab.control_server import FakeOperations, connect, hear, open_files, say, serving
from structlog.testing import capture_logs

from gatewayd.control.operations import ControlContext, ControlOperations
from gatewayd.control.parse import parse
from gatewayd.control.peer import Peer
from gatewayd.ota.version import Version
from gatewayd.planning.commands import CommandResult

PUSH = b'{"v": 1, "op": "push", "device": "pump-1", "version": "4.3.2"}\n'
LIMIT = 1024 * 1024


class Taken:
    """Stands for commands: keeps what was pushed."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.at_once = self.most_at_once = 0

    async def push(self, name: str, _: Version, content: bytes, __: str, *, to_line: bool) -> CommandResult:
        assert not to_line
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)  # another's turn
        self.at_once -= 1
        self.contents.append(content)
        return CommandResult(name, None, "job 1 (4.3.2) is queued")


class Lab:
    """The real operations, before commands that only notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands = Taken()
        settings = SimpleNamespace(mqtt=SimpleNamespace(max_message_mib=1))
        parts = SimpleNamespace(reconciler=SimpleNamespace(settings=settings), commands=self.commands)
        self.operations = ControlOperations(cast("ControlContext", parts))
        self.path = Path()

    def file(self, content: bytes = b"firmware") -> Path:
        (self.folder / "file").write_bytes(content)
        return self.folder / "file"

    def push(self, *descriptors: int) -> str:
        """Return the code of the refusal; none when it was taken."""
        reply = check_reply(say(self.path, PUSH, *descriptors))
        return str(reply.get("error", {}).get("code", ""))


@pytest.fixture(name="lab")
def _lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    with serving(tmp_path, cast("FakeOperations", lab.operations)) as lab.path:
        assert lab.push() == "no_file"  # everything that is opened once is open
        before = open_files()
        yield lab
        assert lab.push() == "no_file"
        assert open_files() == before, "no descriptor leaks"


def opened(lab: Lab, how: Callable[[], int]) -> str:
    descriptor = how()
    try:
        return lab.push(descriptor)
    finally:
        os.close(descriptor)


def test_a_file_is_read_from_its_beginning(lab: Lab) -> None:
    with lab.file().open("rb") as file:
        file.read(3)
        assert lab.push(file.fileno()) == ""
        assert file.read() == b"mware", "and its reader does not notice"
    assert lab.commands.contents == [b"firmware"]


def test_of_several_the_first_is_taken_and_the_others_are_closed(lab: Lab) -> None:
    with ExitStack() as files:
        first = files.enter_context(lab.file().open("rb"))
        null = files.enter_context(Path(os.devnull).open("rb"))
        assert lab.push(first.fileno(), null.fileno(), null.fileno()) == ""
    assert lab.commands.contents == [b"firmware"]


@pytest.mark.parametrize("count", [5, 20, 250])
def test_too_many_are_refused(lab: Lab, count: int) -> None:
    with lab.file().open("rb") as file:
        assert lab.push(*[file.fileno()] * count) == "bad_request"
    assert lab.commands.contents == []


def test_too_many_in_several_pieces_are_refused(lab: Lab) -> None:
    with lab.file().open("rb") as file, closing(connect(lab.path)) as connection:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()] * 3))]
        try:
            for piece in (PUSH[:10], PUSH[10:20], PUSH[20:]):
                connection.sendmsg([piece], rights)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused already
        assert check_reply(hear(connection))["error"]["code"] == "bad_request"


@pytest.mark.attack("a pipe in a file's place", "no_file")
def test_a_pipe_is_refused(lab: Lab) -> None:
    reading, writing = os.pipe()
    assert opened(lab, lambda: reading) == "no_file"
    os.close(writing)


@pytest.mark.parametrize(
    ("flags", "path"),
    [
        (os.O_RDONLY | os.O_DIRECTORY, "."),
        (os.O_WRONLY, "file"),
        (os.O_PATH, "file"),
        (os.O_RDONLY, os.devnull),
        (os.O_RDONLY, "/dev/zero"),
    ],
    ids=["a folder", "only for writing", "only its name", "nothing", "without end"],
)
def test_what_cannot_be_read_as_a_file_is_refused(lab: Lab, flags: int, path: str) -> None:
    lab.file()
    assert opened(lab, lambda: os.open(lab.folder / path, flags)) == "no_file"
    assert lab.commands.contents == []


def test_one_byte_too_large_is_refused_and_the_limit_itself_is_not(lab: Lab) -> None:
    with lab.file(bytes(LIMIT)).open("rb") as file:
        assert lab.push(file.fileno()) == ""
    with lab.file(bytes(LIMIT + 1)).open("rb") as file:
        assert lab.push(file.fileno()) == "too_large"


def test_a_device_node_may_be_handed_over_by_nobody(lab: Lab) -> None:
    """A tty is what a daemon with rights to it must not be made to read."""
    master, slave = os.openpty()
    assert opened(lab, lambda: slave) == "no_file"
    os.close(master)


@pytest.mark.attack("commands that nobody would own up to")
def test_who_steers_is_logged_with_credentials_and_who_looks_is_not(lab: Lab) -> None:
    with capture_logs() as logs:
        with lab.file().open("rb") as file:
            assert lab.push(file.fileno()) == ""
        say(lab.path, b'{"v": 1, "op": "status"}\n')
    told = [(one["op"], one["uid"], one["pid"]) for one in logs if one["log_level"] == "info"]
    assert told == [("push", os.getuid(), os.getpid())]


def test_an_operation_closes_what_it_takes_and_nothing_else(lab: Lab) -> None:
    peer = Peer(files=[os.open(lab.file(), os.O_RDONLY), os.open(lab.file(), os.O_RDONLY)])

    async def ask() -> None:
        async for _ in lab.operations.answer(parse(PUSH), peer):
            pass

    asyncio.run(ask())
    assert len(peer.files) == 1, "what was not taken is left to be closed"
    peer.close()
    assert lab.commands.contents == [b"firmware"]


@pytest.mark.attack("memory, with many large files at once")
def test_of_many_at_once_only_one_is_in_memory(lab: Lab) -> None:
    async def ask() -> None:
        peer = Peer(files=[os.open(lab.file(), os.O_RDONLY)])
        async for _ in lab.operations.answer(parse(PUSH), peer):
            pass

    async def ask_often() -> None:
        await asyncio.gather(*(ask() for _ in range(20)))

    asyncio.run(ask_often())
    assert (len(lab.commands.contents), lab.commands.most_at_once) == (20, 1)
