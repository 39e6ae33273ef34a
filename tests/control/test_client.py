"""The asking end: whatever answers, or does not, becomes one sentence with a code."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab.control_server import DEADLINE_S, NOTHING, FakeOperations, WatchedOperations, serving

from gatewayd.control import client
from gatewayd.control.client import DaemonUnreachable, ask, subscribe
from gatewayd.control.messages import DevicesResult, OutcomesResult, ReloadResult
from gatewayd.control.parse import build
from gatewayd.control.requests import Devices, Push, Reload, Watch
from gatewayd.errors import ConfigError, GatewaydError, RequestError

GOOD = (
    b'{"v": 1, "ok": true, "result": {"gateway": "barn", "paused": null, "trouble": null, "devices": []}}\n'
)


@contextmanager
def answering(folder: Path, answer: bytes | None) -> Iterator[Path]:
    """A daemon that reads a request and sends these bytes; None: it says nothing until the end."""
    path, enough = folder / "control.sock", threading.Event()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(DEADLINE_S)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            if answer is None:
                enough.wait(DEADLINE_S)
            else:
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield path
    finally:
        enough.set()
        thread.join(DEADLINE_S)
        listener.close()


def devices(path: Path) -> DevicesResult:
    return ask(path, Devices(), DevicesResult)


def test_a_good_answer(tmp_path: Path) -> None:
    with answering(tmp_path, GOOD) as path:
        assert devices(path).gateway == "barn"


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match=r"no gatewayd answers on .*: No such file") as gone:
        devices(tmp_path / "control.sock")
    assert "is it running?" in gone.value.hint


def test_nobody_listens_any_more(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "control.sock"))
    with pytest.raises(DaemonUnreachable, match="refused"):
        devices(tmp_path / "control.sock")


def test_no_permission_says_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(DaemonUnreachable, match="permission denied for") as refused:
        devices(tmp_path / "control.sock")
    assert "group" in refused.value.hint


@pytest.mark.parametrize("answer", [b"", GOOD[:30]], ids=["at once", "in mid-answer"])
def test_a_daemon_that_goes_away(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path, answer) as path, pytest.raises(DaemonUnreachable, match="closed the connection"):
        devices(path)


def test_a_daemon_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_TIMEOUT_S", 0.05)
    with (
        answering(tmp_path, None) as path,
        pytest.raises(DaemonUnreachable, match="does not answer: timed out"),
    ):
        devices(path)


@pytest.mark.parametrize(
    "answer",
    [
        b"hello\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"7\n",
        b"{}\n",
        b'{"ok": true}\n',
        b'{"ok": true, "result": {}}\n',
        b'{"ok": true, "result": {"gateway": 7}}\n',
        b'{"ok": false}\n',
        b'{"ok": false, "error": []}\n',
        b'{"ok": false, "error": {"code": "x"}}\n',
        b'{"ok": false, "error": {"code": 1, "message": 2}}\n',
        b'{"ok": false, "error": {"code": "bad_configuration", "message": "x", "mistakes": 7}}\n',
        b"[" * 100_000 + b"\n",
    ],
    ids=lambda answer: answer[:60],
)
def test_what_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    with (
        answering(tmp_path, answer) as path,
        pytest.raises(GatewaydError, match="cannot understand") as error,
    ):
        devices(path)
    assert error.value.code == "protocol_version"
    assert len(error.value.message) < 200


def test_a_refusal_keeps_its_code_and_its_next_step(tmp_path: Path) -> None:
    refusal = RequestError("there is no job 7", code="no_such_job", hint="gatewayctl jobs")
    with serving(tmp_path, FakeOperations(refusal)) as path, pytest.raises(RequestError) as error:
        devices(path)
    assert (error.value.code, str(error.value)) == ("no_such_job", "there is no job 7 (gatewayctl jobs)")


def test_a_refused_configuration_keeps_its_mistakes(tmp_path: Path) -> None:
    answer = (
        b'{"ok": false, "error": {"code": "bad_configuration", "message": "x", "mistakes": ["a:1", "b:2"]}}\n'
    )
    with answering(tmp_path, answer) as path, pytest.raises(ConfigError) as error:
        ask(path, Reload(), ReloadResult)
    assert error.value.message == "a:1\nb:2"


def test_who_is_turned_away_before_having_spoken_hears_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayd.control.server.MAX_CONNECTIONS", 0)
    with serving(tmp_path, FakeOperations()) as path, pytest.raises(RequestError) as error:
        ask(path, build(Devices, names=["x" * 60] * 1000), DevicesResult)
    assert error.value.code == "busy"


def test_a_subscription_yields_until_the_daemon_is_gone(tmp_path: Path) -> None:
    operations = FakeOperations(NOTHING, NOTHING)
    with serving(tmp_path, operations) as path:
        news = subscribe(path, Watch(), OutcomesResult)
        assert [next(news), next(news)] == [NOTHING, NOTHING]
        with pytest.raises(DaemonUnreachable):
            next(news)


def test_who_stops_listening_leaves_nothing_open(tmp_path: Path) -> None:
    operations = WatchedOperations()
    with serving(tmp_path, operations) as path:
        for _ in subscribe(path, Watch(), OutcomesResult):
            break
        assert operations.left.wait(DEADLINE_S)


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_file_goes_along(tmp_path: Path, size: int) -> None:
    operations = FakeOperations()
    (tmp_path / "file").write_bytes(bytes(size))
    with serving(tmp_path, operations) as path, (tmp_path / "file").open("rb") as file:
        ask(path, Push(device="pump-1", version="4.3.2"), OutcomesResult, file)
        assert not os.get_inheritable(file.fileno())
    assert operations.files == [1]
