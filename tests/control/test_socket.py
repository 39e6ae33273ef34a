"""The socket itself: whose it is, who gets in, and what lay there before."""

import os
import socket
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from lab.control_schema import check_reply
from lab.control_server import FakeOperations, connect, say, serving

from gatewayd.control import server
from gatewayd.control.server import ControlServer
from gatewayd.errors import HostError

NOBODY, GROUP = 65534, 54321
STATUS = b'{"v": 1, "op": "status"}\n'


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.attack("the socket's mode and group are 0660 and the daemon's own")
def test_owner_and_group_get_in_and_nobody_else(tmp_path: Path) -> None:
    with serving(tmp_path, FakeOperations()) as path:
        assert mode(path) == 0o660
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())
    assert not path.exists()


@pytest.mark.attack("a user who is not in the group")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_stranger_is_kept_out_and_a_member_of_the_group_is_not() -> None:
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), FakeOperations()) as path:
        Path(folder).chmod(0o755)
        os.chown(path, 0, GROUP)
        code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        for group, gets_in in ((NOBODY, False), (GROUP, True)):
            ran = subprocess.run(
                ["/usr/bin/env", "python3", "-c", code, path],
                user=NOBODY,
                group=group,
                extra_groups=[],
                capture_output=True,
                check=False,
                timeout=200,
            )
            assert (ran.returncode == 0) == gets_in, ran.stderr
            assert (b"PermissionError" in ran.stderr) != gets_in


@pytest.mark.attack("a connection while the socket is being made")
def test_it_is_closed_to_others_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    class Spy(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            modes.append(mode(Path(address)))

    monkeypatch.setattr(socket, "socket", Spy)
    before = os.umask(0)
    try:
        with serving(tmp_path, FakeOperations()):
            assert os.umask(0) == 0, "the daemon's own mask is as it was"
    finally:
        os.umask(before)
    assert modes == [0o660]


def test_its_folder_is_made(tmp_path: Path) -> None:
    control = ControlServer(tmp_path / "run" / "gatewayd" / "control.sock", FakeOperations())
    control.open()
    control.close()
    assert mode(tmp_path / "run" / "gatewayd") == 0o755


def test_what_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "control.sock"))
    with serving(tmp_path, FakeOperations()) as path:
        assert check_reply(say(path, STATUS))["ok"]


def test_a_daemon_that_lives_is_left_alone(tmp_path: Path) -> None:
    with serving(tmp_path, FakeOperations()) as path:
        with pytest.raises(HostError, match="another gatewayd answers") as refused:
            ControlServer(path, FakeOperations()).open()
        assert refused.value.code == "control_socket_in_use"
        assert check_reply(say(path, STATUS))["ok"]


def test_one_that_lives_and_has_no_time_is_left_alone_too(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(HostError) as refused:
            ControlServer(path, FakeOperations()).open()
    assert refused.value.code == "control_socket_in_use"


@pytest.mark.attack("a file in the socket's place", "no_control_socket")
@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_is_no_socket_is_not_removed(tmp_path: Path, what: str) -> None:
    path = tmp_path / "control.sock"
    if what == "file":
        path.write_text("precious")
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nothing")
    with pytest.raises(HostError) as refused:
        ControlServer(path, FakeOperations()).open()
    assert refused.value.code == "no_control_socket"
    assert os.path.lexists(path)


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="too long") as refused:
        ControlServer(tmp_path / ("x" * 120), FakeOperations()).open()
    assert refused.value.code == "no_control_socket"


@pytest.mark.attack("connections without an end", "busy")
def test_one_connection_too_many_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    with serving(tmp_path, FakeOperations()) as path:
        silent = [connect(path) for _ in range(3)]
        reply = check_reply(say(path, STATUS))
        assert reply["error"]["code"] == "busy"
        assert reply["error"]["hint"]
        for one in silent:
            one.close()
        while "error" in (reply := check_reply(say(path, STATUS))):
            assert reply["error"]["code"] == "busy"  # until it has noticed
