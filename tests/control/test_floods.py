"""Who says or wants too much costs the daemon's loop no more than anybody else."""

import asyncio
import socket
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from lab.control_server import DEADLINE_S, FakeOperations, WatchedOperations, connect, hear, serving

from gatewayd.control import server
from gatewayd.control.requests import MAX_REQUEST_BYTES
from gatewayd.control.server import ControlServer

STATUS = b'{"v": 1, "op": "status"}\n'
WATCH = b'{"v": 1, "op": "watch"}\n'
CROWD = 40


def test_a_subscriber_who_does_not_stop_talking_is_let_go(tmp_path: Path) -> None:
    operations = WatchedOperations()
    with serving(tmp_path, operations) as path, closing(connect(path)) as connection:
        connection.sendall(WATCH)
        assert operations.begun.wait(DEADLINE_S)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"x" * 100 * MAX_REQUEST_BYTES)
        assert operations.left.wait(DEADLINE_S)


async def test_those_who_come_at_once_are_served_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    everybody_is_in = asyncio.Event()

    def count(others: int) -> None:
        together.append(others)
        if len(together) == CROWD:
            everybody_is_in.set()

    monkeypatch.setattr(server, "_check_room", count)
    control = ControlServer(tmp_path / "control.sock", FakeOperations())
    control.open()
    with ExitStack() as crowd:
        for _ in range(CROWD):
            connection = crowd.enter_context(closing(connect(tmp_path / "control.sock")))
            connection.sendall(STATUS)
        running = asyncio.create_task(control.run())
        async with asyncio.timeout(DEADLINE_S):
            await everybody_is_in.wait()
        running.cancel()
        await asyncio.wait([running])
        assert [task for task in asyncio.all_tasks() if task.get_name() == "control"] == []
    control.close()
    assert max(together) < CROWD / 2


async def test_who_comes_together_with_the_end_is_let_go(tmp_path: Path) -> None:
    troubles: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    control = ControlServer(tmp_path / "control.sock", FakeOperations())
    control.open()
    running = asyncio.create_task(control.run())
    await asyncio.sleep(0.01)
    with closing(connect(tmp_path / "control.sock")) as connection:
        asyncio.get_running_loop().call_soon(running.cancel)
        await asyncio.wait([running])
        await asyncio.sleep(0)
        control.close()
        assert troubles == []
        assert hear(connection) == b""


def test_the_listener_itself_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who hung up while waiting to be let in leaves nobody to be accepted."""
    refused: list[bool] = []

    class Fickle(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            if not refused:
                refused.append(True)
                raise BlockingIOError
            return super().accept()

    monkeypatch.setattr(socket, "socket", Fickle)
    with serving(tmp_path, FakeOperations()) as path, closing(connect(path)) as connection:
        connection.sendall(STATUS)
        assert hear(connection)
    assert refused
