"""Lines for the journal: what is sent is read back by a reader written from the protocol's description."""

import fcntl
import os
import re
import socket
import subprocess
import sys
from io import StringIO
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.systemd.journal import Journal, field_name, frame, is_behind

JOURNALD_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
NAMES = st.from_regex(JOURNALD_NAME, fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8")) | st.text(alphabet="a=\n\0", max_size=8)


def read(content: bytes) -> list[tuple[str, str]]:
    """What journald makes of a datagram. Raises for what it would drop."""
    fields = []
    while content:
        line, _, rest = content.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size, rest = int.from_bytes(rest[:8], "little"), rest[8:]
            value, end, rest = rest[:size], rest[size : size + 1], rest[size + 1 :]
            assert len(value) == size
            assert end == b"\n"
        assert JOURNALD_NAME.fullmatch(name.decode())
        fields.append((name.decode(), value.decode()))
        content = rest
    return fields


class Journald:
    """The receiving end."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(120)
        self._socket.bind(str(path))

    def entry(self) -> dict[str, str]:
        content, files, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        for file in files:
            assert content == b""
            assert fcntl.fcntl(file, fcntl.F_GET_SEALS) == 15, "journald takes no file that can still change"
            content = os.pread(file, 1 << 30, 0)
            os.close(file)
        return dict(read(content))

    def close(self) -> None:
        self._socket.close()


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_whatever_is_framed_is_read_back(fields: list[tuple[str, str]]) -> None:
    assert read(frame(fields)) == fields


def test_what_is_no_text_does_not_break_the_line() -> None:
    assert read(frame([("TEXT", "a\udcffb"), ("JOB", "1")])) == [("TEXT", "a?b"), ("JOB", "1")]


@given(st.text())
def test_any_key_becomes_a_name_that_journald_takes_and_that_is_not_ours(key: str) -> None:
    assert JOURNALD_NAME.fullmatch(field_name(key))
    assert field_name(key) not in ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER")


def test_keys_are_found_under_their_own_name() -> None:
    names = {
        "device": "DEVICE",
        "retry_in_s": "RETRY_IN_S",
        "_pid": "X_PID",
        "a-b": "A_B",
        "message": "MESSAGE_",
    }
    assert {key: field_name(key) for key in names} == names


def test_a_line_that_is_too_large_for_a_datagram_comes_in_a_sealed_file(tmp_path: Path) -> None:
    journald = Journald(tmp_path / "socket")
    Journal(StringIO(), str(tmp_path / "socket")).info(MESSAGE="x" * 5_000_000, PRIORITY="6")
    assert journald.entry() == {"MESSAGE": "x" * 5_000_000, "PRIORITY": "6"}
    journald.close()


def test_without_a_journal_it_is_a_line_and_with_one_again_an_entry(tmp_path: Path) -> None:
    fallback = StringIO()
    journal = Journal(fallback, str(tmp_path / "socket"))
    journal.warning(MESSAGE="pump-1: \udcff", PRIORITY="4", DEVICE="pump-1")
    assert fallback.getvalue() == "<4>pump-1: ?\n"
    journald = Journald(tmp_path / "socket")
    journal.warning(MESSAGE="again", PRIORITY="4")
    assert journald.entry()["MESSAGE"] == "again"
    journald.close()


def test_a_stream_is_known_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        status = os.fstat(file.fileno())
        assert is_behind(file, f"{status.st_dev}:{status.st_ino}")
        assert not is_behind(file, f"{status.st_dev}:{status.st_ino + 1}")
        assert not is_behind(file, None)
    assert not is_behind(StringIO(), "1:1")
    assert not is_behind(file, "1:1"), "which is closed"


# A process whose standard error goes to a journal, as far as it can tell.
PROGRAM = """
import asyncio, logging, os, sys, warnings
from gatewayd import log
from gatewayd.systemd import journal
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
journal.Journal.__init__.__defaults__ = (sys.argv[1],)
log.configure()
import structlog
line = structlog.get_logger().bind(device="pump-1", job=3)
line.warning("attempt failed", code="no_answer", reason="no answer (is it on?)", retry_in_s=2.5, version=None)
line.debug("next step")
line.info("configuration reloaded", added=("a", "b"))
try:
    1 / 0
except ZeroDivisionError:
    line.exception("a defect", message="two\\nlines")
logging.getLogger("bleak").warning("the %s is off", "radio")
logging.getLogger("bleak").info("not wanted")
warnings.warn("old")
async def main():
    async def fails():
        raise ValueError("nobody waits for it")
    asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(main())
"""


def test_lines_of_ours_and_of_libraries_become_entries(tmp_path: Path) -> None:
    journald = Journald(tmp_path / "socket")
    with (tmp_path / "stderr").open("wb") as stderr:
        subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "socket"], stderr=stderr, check=True)
    assert journald.entry() == {
        "MESSAGE": "attempt failed: no answer (is it on?) device=pump-1 job=3 code=no_answer retry_in_s=2.5",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "gatewayd",
        "DEVICE": "pump-1",
        "JOB": "3",
        "CODE": "no_answer",
        "REASON": "no answer (is it on?)",
        "RETRY_IN_S": "2.5",
    }
    assert journald.entry()["ADDED"] == '["a", "b"]'
    defect = journald.entry()
    assert (defect["PRIORITY"], defect["MESSAGE_"], defect["DEVICE"]) == ("3", "two\nlines", "pump-1")
    assert defect["MESSAGE"].splitlines()[-1] == "ZeroDivisionError: division by zero"
    radio = journald.entry()
    assert (radio["MESSAGE"], radio["LIBRARY"]) == ("the radio is off library=bleak", "bleak")
    assert "UserWarning: old" in journald.entry()["MESSAGE"]
    lost = journald.entry()
    assert (lost["PRIORITY"], lost["LIBRARY"]) == ("3", "asyncio")
    assert "ValueError: nobody waits for it" in lost["MESSAGE"]
    assert (tmp_path / "stderr").read_bytes() == b""
    journald.close()
