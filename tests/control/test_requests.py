"""What comes in may be anything: each request gets one answer or a closed connection, and costs little."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lab.control_schema import check_reply
from lab.control_server import (
    DEADLINE_S,
    NOTHING,
    FakeOperations,
    WatchedOperations,
    connect,
    hear,
    open_files,
    say,
    say_and_go,
    serving,
)
from structlog.testing import capture_logs

from gatewayd.control import server
from gatewayd.control.caller import Caller
from gatewayd.control.messages import Outcome, OutcomesResult
from gatewayd.control.replies import Result
from gatewayd.control.requests import MAX_REQUEST_BYTES, AnyRequest
from gatewayd.errors import RequestError

STATUS = b'{"v": 1, "op": "status"}\n'


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with serving(tmp_path_factory.mktemp("control"), FakeOperations()) as path:
        yield path


@pytest.mark.attack("malformed, nested, unknown and huge requests", "bad_request", "protocol_version")
@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (b"\n", "bad_request", "JSON"),
        (b"hello\n", "bad_request", "JSON"),
        (b"\xff\xfe\n", "bad_request", "JSON"),
        (b"[]\n", "bad_request", "an object that names its op"),
        (b"{}\n", "bad_request", "op"),
        (b'{"op": 7}\n', "protocol_version", "unknown request '7'"),
        (b'{"v": 1, "op": "format_disk"}\n', "protocol_version", "format_disk"),
        (b'{"v": 2, "op": "status"}\n', "protocol_version", "version 1 of the protocol, not 2"),
        (b'{"v": 1, "op": "status", "verbose": true}\n', "bad_request", "verbose"),
        (b'{"v": 1, "op": "job", "id": "seven"}\n', "bad_request", "id"),
        (b'{"v": 1, "op": "retry", "targets": []}\n', "bad_request", "targets"),
        (b"[" * 60_000 + b"\n", "bad_request", "JSON"),
        (b'{"a":' * 10_000 + b"\n", "bad_request", "JSON"),
        (b'{"v": 1, "op": "devices", "names": [' + b"7," * 30_000 + b"7]}\n", "bad_request", "30001 faults"),
        (b'{"v": 1, "op": "devices", "names": ["' + b"x" * 60_000 + b'"]}\n', "bad_request", "names.0"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else None,
)
def test_what_is_not_understood_is_refused(path: Path, line: bytes, code: str, says: str) -> None:
    error = check_reply(say(path, line))["error"]
    assert error["code"] == code
    assert says in error["message"]
    assert len(error["message"]) < 300
    assert "\n" not in error["message"]


def test_a_request_may_come_in_pieces(path: Path) -> None:
    with closing(connect(path)) as connection:
        for byte in STATUS:
            connection.sendall(bytes([byte]))
        assert check_reply(hear(connection))["ok"]


def test_one_request_a_connection(path: Path) -> None:
    assert say(path, STATUS + STATUS).count(b"\n") == 1


@pytest.mark.attack("a request without an end", "bad_request")
def test_a_line_without_an_end_is_cut_off_at_its_limit(path: Path) -> None:
    error = check_reply(say(path, b"x" * (MAX_REQUEST_BYTES * 4)))["error"]
    assert (error["code"], str(MAX_REQUEST_BYTES) in error["message"]) == ("bad_request", True)


@pytest.mark.attack("a thousand bad requests")
def test_a_thousand_bad_requests_leave_nothing_behind(path: Path) -> None:
    bad = [b"{}\n", b"\xff\n", STATUS[:10], b"", b"x" * (MAX_REQUEST_BYTES + 1)]
    for said in bad:
        say_and_go(path, said)
    assert check_reply(say(path, STATUS))["ok"], "everything that is opened once is open"
    before = open_files()
    with capture_logs() as logs:
        for said in bad * 200:
            say_and_go(path, said)
        assert check_reply(say(path, STATUS))["ok"]
    assert open_files() <= before
    assert {one["log_level"] for one in logs} <= {"debug"}, "who floods the socket must not flood the journal"


def test_half_a_request_and_a_hang_up_is_nothing(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.sendall(STATUS[:10])
        connection.shutdown(1)
        assert hear(connection) == b""


@pytest.mark.attack("a request that never comes")
def test_who_says_nothing_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_LIMIT_S", 0.05)
    for said in (b"", STATUS[:10]):
        assert say(path, said) == b""


@pytest.mark.attack("an answer that is never taken")
def test_who_does_not_take_an_answer_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_LIMIT_S", 0.05)
    huge = OutcomesResult(outcomes=(Outcome(device="pump-1", job=None, state=None, text="x" * 5_000_000),))
    ended = threading.Event()
    send = server._send  # noqa: SLF001 - nothing else shows when it gives up

    async def watched(*args: object) -> None:
        try:
            await send(*args)  # type: ignore[arg-type]  # as it is called
        finally:
            ended.set()

    monkeypatch.setattr(server, "_send", watched)
    with serving(tmp_path, FakeOperations(huge)) as path, closing(connect(path)) as connection:
        connection.sendall(STATUS)
        assert ended.wait(DEADLINE_S)
        assert len(hear(connection)) < 5_000_000


def test_a_file_that_is_not_wanted_is_closed(path: Path) -> None:
    reading, writing = os.pipe()
    with closing(os.fdopen(reading, "rb")) as pipe:
        assert check_reply(say(path, STATUS, writing))["ok"]
        os.close(writing)
        assert pipe.read() == b"", "no other end is open"


def test_a_file_that_comes_too_late_is_closed(tmp_path: Path) -> None:
    operations = WatchedOperations()
    reading, writing = os.pipe()
    with (
        serving(tmp_path, operations) as path,
        closing(os.fdopen(reading, "rb")) as pipe,
        closing(connect(path)) as connection,
    ):
        connection.sendall(b'{"v": 1, "op": "watch"}\n')
        assert operations.begun.wait(DEADLINE_S)
        socket.send_fds(connection, [b"more"], [writing])
        os.close(writing)
        assert pipe.read() == b"", "no other end is open"
        assert not operations.left.is_set()


def test_a_subscription_ends_with_its_listener(tmp_path: Path) -> None:
    operations = WatchedOperations()
    with serving(tmp_path, operations) as path:
        with closing(connect(path)) as connection:
            connection.sendall(b'{"v": 1, "op": "watch"}\n')
            assert operations.begun.wait(DEADLINE_S)
            assert not operations.left.is_set()
        assert operations.left.wait(DEADLINE_S)


class _Thorough(FakeOperations):
    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may_end, self.ended = threading.Event(), threading.Event(), threading.Event()

    async def answer(self, request: AnyRequest, caller: Caller) -> AsyncIterator[Result]:  # noqa: ARG002 - the protocol's
        self.begun.set()
        await asyncio.to_thread(self.may_end.wait, DEADLINE_S)
        self.ended.set()
        yield NOTHING


def test_what_was_begun_for_somebody_who_left_is_finished(tmp_path: Path) -> None:
    operations = _Thorough()
    with serving(tmp_path, operations) as path:
        with closing(connect(path)) as connection:
            connection.sendall(STATUS)
            assert operations.begun.wait(DEADLINE_S)
        assert check_reply(say(path, b"{}\n"))["error"], "by now it has noticed"
        operations.may_end.set()
        assert operations.ended.wait(DEADLINE_S)


@pytest.mark.parametrize("error", [RuntimeError("secret"), OSError("secret"), TimeoutError("secret")])
def test_a_defect_is_internal_and_keeps_its_trace_to_itself(
    tmp_path: Path, error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, FakeOperations(error)) as path:
        reply = say(path, STATUS)
    assert check_reply(reply)["error"]["code"] == "internal"
    assert b"secret" not in reply
    assert b"Traceback" not in reply
    assert "secret" in "".join(capfd.readouterr())


def test_an_error_of_ours_goes_out_as_it_is(tmp_path: Path) -> None:
    refusal = RequestError("there is no job 7", code="no_such_job", hint="gatewayctl jobs")
    with serving(tmp_path, FakeOperations(refusal)) as path:
        error = check_reply(say(path, STATUS))["error"]
    assert error == {
        "code": "no_such_job",
        "message": "there is no job 7",
        "hint": "gatewayctl jobs",
        "mistakes": [],
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5
)
REQUESTS = st.dictionaries(
    st.sampled_from(["v", "op", "names", "targets", "device", "devices", "id", "topic", "version"]),
    st.sampled_from([1, "watch", "devices", "push", "retry", "pause", "job"]) | VALUES,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(said=st.binary(max_size=200) | REQUESTS.map(lambda one: str(one).replace("'", '"').encode()))
@example(b'{"v": 1, "op": "devices", "names": ["\\ud800"]}')
@example(b'{"v": 1e999, "op": "status"}')
@example(b"\0" * 100)
def test_whatever_is_said_the_answer_is_well_formed(path: Path, said: bytes) -> None:
    line = said.replace(b"\n", b" ") + b"\n"
    check_reply(say(path, line))
    assert check_reply(say(path, STATUS))["ok"], "and the next one is served"
