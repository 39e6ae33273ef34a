"""What the doctor says of ports, files, disk, clock and daemon. Root may do all, so facts are made up."""

import fcntl
import os
import pty
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from lab.configuration import Lab

from gatewayd.config import Gateway
from gatewayd.doctor import host, process
from gatewayd.doctor.account import ENTER, READ, WRITE, Account
from gatewayd.doctor.finding import Finding, Level
from gatewayd.doctor.host import (
    RELEASED,
    Disk,
    examine_database,
    examine_state_dir,
    judge_clock,
    judge_directory,
    judge_disk,
    judge_sqlite,
)
from gatewayd.doctor.keys import examine_keys, judge_file
from gatewayd.doctor.ports import PortFacts, examine_ports, judge_port
from gatewayd.doctor.process import (
    daemon_findings,
    environment,
    examine_watchdog,
    find_account,
    judge_watchdog,
)
from gatewayd.link.holders import Holder
from gatewayd.link.ports import Kind, Port
from gatewayd.store.lock import LockHolder, find_daemon

OFF, ON, UNKNOWN = LockHolder(runs=False), LockHolder(runs=True, pid=77), LockHolder(runs=None)
BARN = Account("barn", 4711, frozenset({4711, 20}))
ROOT = Account("root", 0, frozenset())


def status(mode: int, uid: int = 0, gid: int = 0, size: int = 32) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, size, 0, 0, 0))


def code(finding: Finding) -> str:
    """Return the code, or the level where all is well; everything else has a next step."""
    assert (finding.hint is None) == (finding.code is None) == (finding.level is Level.OK)
    return finding.code or finding.level.value


# -- accounts


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "want", "may"),
    [
        (0o600, 4711, 0, READ | WRITE, True),
        (0o060, 4711, 20, READ, False),  # the owner's bits count for the owner, even if fewer
        (0o660, 0, 20, READ | WRITE, True),
        (0o640, 0, 20, WRITE, False),
        (0o660, 0, 5, READ, False),
        (0o664, 0, 5, READ, True),
        (0o664, 0, 5, READ | WRITE, False),
    ],
)
def test_mode_bits(mode: int, uid: int, gid: int, want: int, *, may: bool) -> None:
    assert BARN.may(status(mode, uid, gid), want) is may
    assert ROOT.may(status(mode, uid, gid), want)


def test_what_stands_in_the_way_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "file"
    file.parent.mkdir(mode=0o755)
    file.write_bytes(b"")
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(folder.stat().st_mode | 0o755)
    file.chmod(0o644)
    assert not BARN.obstacle(file, READ)
    file.chmod(0o640)
    assert BARN.obstacle(file, READ) == f"barn may not read {file}"
    file.parent.chmod(0o700)
    assert BARN.obstacle(file, READ) == f"barn may not enter {file.parent}"
    with pytest.raises(FileNotFoundError):
        BARN.obstacle(tmp_path / "none", READ)


def test_the_account_of_this_process() -> None:
    account = Account.of_process(os.getpid())
    assert account.uid == os.geteuid()
    assert account.gids >= {os.getegid(), *os.getgroups()}
    assert Account.of_user(2**31 - 7) == Account(str(2**31 - 7), 2**31 - 7, frozenset())


# -- ports


PORT = Port("/dev/serial/by-id/x", "/dev/ttyUSB0", "FT232R", Kind.USB, may_reset=True)
TTY = stat.S_IFCHR | 0o660


@pytest.mark.parametrize(
    ("facts", "daemon", "expected", "words"),
    [
        (PortFacts(PORT, TTY), OFF, "ok", "is there, usb; its stable name is /dev/serial/by-id/x"),
        (PortFacts(PORT, None), OFF, "link_missing", "/dev/pump-1 does not exist"),
        (PortFacts(PORT, stat.S_IFREG), OFF, "link_error", "is not a port"),
        (PortFacts(PORT, TTY, "barn may not open /dev/x"), OFF, "link_denied", "barn may not open"),
        (PortFacts(PORT, TTY, holder=Holder("picocom", 12)), ON, "link_busy", "by picocom (process 12)"),
        (PortFacts(PORT, TTY, holder=Holder("gatewayd", 77)), ON, "ok", "in use by gatewayd"),
        (PortFacts(Port("x", "x", "", Kind.BUILT_IN, True, True), TTY), OFF, "link_busy", "console"),
    ],
)
def test_a_port(facts: PortFacts, daemon: LockHolder, expected: str, words: str, tmp_path: Path) -> None:
    (device,) = Lab(tmp_path).settings().devices
    finding = judge_port(device.name, device.link.address, facts, daemon)
    assert finding.subject == "pump-1"
    assert code(finding) == expected
    assert words in finding.text


def test_the_hint_names_the_ports_group(tmp_path: Path) -> None:
    (device,) = Lab(tmp_path).settings().devices
    finding = judge_port(
        device.name, device.link.address, PortFacts(PORT, TTY, "barn may not", group="uucp"), OFF
    )
    assert "usermod -aG uucp USER" in (finding.hint or "")


def test_real_ports(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    master, slave = pty.openpty()
    (tmp_path / "link").symlink_to(os.ttyname(slave))
    lab.tree["devices"] = [
        lab.device(name, link={"uart": uart})
        for name, uart in (("a", f"{tmp_path}/link"), ("b", f"{tmp_path}/none"), ("c", str(lab.file)))
    ]
    devices = lab.settings().devices
    assert [code(one) for one in examine_ports(devices, ROOT, OFF)] == ["ok", "link_missing", "link_error"]
    twice = [*devices, devices[0].model_copy(update={"name": "d"})]
    shared = [one for one in examine_ports(twice, ROOT, OFF) if code(one) == "port_shared"]
    assert [one.subject for one in shared] == ["a", "d"]
    assert "leads to the same port as d: /dev/pts/" in shared[0].text
    os.fchmod(slave, 0o600)
    (denied, *_) = examine_ports(devices, BARN, OFF)
    assert denied.text == f"barn may not open {os.ttyname(slave)}"
    os.close(master)
    os.close(slave)


# -- keys


FOLDER = status(stat.S_IFDIR | 0o755)


@pytest.mark.parametrize(
    ("file", "folder", "expected"),
    [
        (status(0o640, gid=20), FOLDER, "ok"),
        (status(0o600, uid=4711), status(stat.S_IFDIR | 0o700, uid=4711), "ok"),
        (status(0o640, uid=1000, gid=20), FOLDER, "file_exposed"),
        (status(0o640, gid=20), status(stat.S_IFDIR | 0o777), "file_exposed"),
        (status(0o640, gid=20), status(stat.S_IFDIR | 0o1777), "ok"),
        (status(0o640, gid=20), status(stat.S_IFDIR | 0o755, uid=1000), "file_exposed"),
    ],
)
def test_a_key_file(file: os.stat_result, folder: os.stat_result, expected: str) -> None:
    finding = judge_file("key k", Path("/etc/k"), file, folder, BARN, "")
    assert code(finding) == expected
    assert "/etc/k" in finding.text


def test_every_file_is_looked_at_and_one_of_somebody_elses_is_closed_to_the_daemon(tmp_path: Path) -> None:
    settings = Lab(tmp_path).settings()
    me = Account.of_user(os.geteuid())
    assert [one.subject for one in examine_keys(settings, me)] == ["password", "key pump", "key pump"]
    assert {code(one) for one in examine_keys(settings, me)} == {"ok"}
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(folder.stat().st_mode | 0o755)
    password, decrypt, verify = examine_keys(settings, BARN)
    assert code(password) == code(decrypt) == "file_unreadable"
    assert decrypt.text.startswith(f"barn may not read {tmp_path}/decrypt.key.bin; ")
    assert "mode 0600" in decrypt.text
    assert code(verify) != "file_unreadable"


# -- clock, SQLite, watchdog


def test_the_clock() -> None:
    now = RELEASED + timedelta(days=1)
    assert code(judge_clock(now, is_synchronised=True)) == "ok"
    assert code(judge_clock(now, is_synchronised=None)) == "ok"
    assert code(judge_clock(now, is_synchronised=False)) == "clock_not_synchronised"
    wrong = judge_clock(RELEASED - timedelta(days=1), is_synchronised=True)
    assert code(wrong) == "clock_wrong"
    assert wrong.level is Level.FAILURE


def test_the_clock_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "ask_system", lambda *_: "no")
    assert code(host.examine_clock()) == "clock_not_synchronised"
    monkeypatch.setattr(host, "ask_system", lambda *_: None)
    assert code(host.examine_clock()) == "ok"


def test_sqlite_before_and_after_its_bug() -> None:
    assert "gatewayd uses one" in judge_sqlite((3, 40, 1)).text
    assert judge_sqlite((3, 51, 3)).text == "3.51.3"


@pytest.mark.parametrize("interval", [None, "", "0", "0s", "infinity"])
def test_no_watchdog(interval: str | None) -> None:
    assert code(judge_watchdog(interval)) == "no_watchdog"


def test_the_watchdog_of_a_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ask_system", lambda *_: "1min")
    monkeypatch.setattr(process, "environment", lambda _: {"WATCHDOG_USEC": "30000000"})
    assert examine_watchdog(ON).text == "systemd restarts gatewayd if it does not report for 30s"
    monkeypatch.setattr(process, "environment", lambda _: {})
    assert examine_watchdog(ON).text == "systemd restarts gatewayd if it does not report for 1min"


def test_the_environment_of_a_process() -> None:
    assert environment(os.getpid())["PATH"]
    assert environment(None) == {}


def test_a_tool_that_is_not_there_or_fails() -> None:
    assert host.ask_system("no-such-tool") is None
    assert host.ask_system("false") is None
    assert host.ask_system("echo", "yes") == "yes"


# -- state directory and disk


def test_a_state_directory(tmp_path: Path) -> None:
    path = tmp_path / "state"
    (directory, disk) = examine_state_dir(path, ROOT, 16)
    assert directory.text == f"{path} does not exist yet; gatewayd will create it"
    assert code(disk) == "ok"
    path.mkdir(mode=0o700)
    assert examine_state_dir(path, ROOT, 16)[0].text == f"{path} is writable for root"
    assert code(examine_state_dir(path, BARN, 16)[0]) == "state_dir_unusable"
    assert code(examine_state_dir(path, ROOT, 2**40)[1]) == "disk_full"
    (tmp_path / "file").write_bytes(b"")
    assert examine_state_dir(tmp_path / "file", ROOT, 16)[0].text == f"{tmp_path}/file is not a directory"


def test_a_state_directory_that_cannot_be_made() -> None:
    finding = judge_directory(
        Path("/srv/x"), FOLDER, "barn may not write in /srv", is_missing=True, account=BARN
    )
    assert finding.text == "/srv/x does not exist, and barn may not write in /srv"
    assert finding.hint == "`install -d -o barn -m 700 /srv/x`"


@pytest.mark.parametrize(
    ("free_mib", "inodes", "expected"),
    [(32, None, "ok"), (31, None, "disk_full"), (99, 1000, "ok"), (99, 999, "disk_full")],
)
def test_a_disk(free_mib: int, inodes: int | None, expected: str) -> None:
    assert code(judge_disk(Path("/s"), Disk(free_mib << 20, inodes), 16)) == expected


# -- the database


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    (tmp_path / "state").mkdir()
    return Gateway(id="barn", state_dir=tmp_path / "state")


@contextmanager
def locked(gateway: Gateway) -> Iterator[None]:
    lock = os.open(gateway.state_dir / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield
    os.close(lock)


def make_database(gateway: Gateway) -> Path:
    path = gateway.state_dir / "gatewayd.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
        database.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 100)
    database.close()
    return path


def test_a_database_that_is_whole(gateway: Gateway) -> None:
    assert code(examine_database(gateway, OFF)) == "ok"
    path = make_database(gateway)
    assert examine_database(gateway, OFF).text == f"{path} is intact"
    assert list(gateway.state_dir.iterdir()) == [path], "nothing is left beside it"


def test_a_database_with_a_wal_that_was_not_written_back(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[set[str]] = []

    def note(copy: Path) -> str:
        copies.append({file.name for file in copy.parent.iterdir()})
        return ""

    monkeypatch.setattr(host, "_damage", note)
    path = make_database(gateway)
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("DELETE FROM t")
    writer.commit()
    before = {file.name: file.read_bytes() for file in gateway.state_dir.iterdir()}
    assert "gatewayd.db-wal" in before
    assert examine_database(gateway, OFF).text == f"{path} is intact"
    assert copies == [{"gatewayd.db", "gatewayd.db-wal"}], "without it, a sound one may look damaged"
    assert {file.name: file.read_bytes() for file in gateway.state_dir.iterdir()} == before
    writer.close()


@pytest.mark.parametrize("at", [0, 3 * 4096], ids=["header", "page"])
def test_a_database_that_is_damaged(gateway: Gateway, at: int) -> None:
    path = make_database(gateway)
    content = bytearray(path.read_bytes())
    content[at : at + 64] = b"\xff" * 64
    path.write_bytes(content)
    assert code(examine_database(gateway, OFF)) == "database_damaged"


def test_a_database_in_use_is_not_opened(gateway: Gateway) -> None:
    make_database(gateway).write_bytes(b"not a database, which opening would show" * 100)
    for daemon in (ON, UNKNOWN):
        assert "not checked, because" in examine_database(gateway, daemon).text
    with locked(gateway):
        assert "not checked, because" in examine_database(gateway, OFF).text
    assert code(examine_database(gateway, OFF)) == "database_damaged"


# -- the daemon


def test_whether_a_daemon_runs(gateway: Gateway) -> None:
    assert find_daemon(gateway.state_dir) == OFF
    with locked(gateway):
        assert find_daemon(gateway.state_dir) == LockHolder(runs=True), (
            "by this process, whose files do not count"
        )
    assert find_daemon(gateway.state_dir) == OFF


def test_what_is_said_of_the_daemon(gateway: Gateway) -> None:
    found = [daemon_findings(Path("config.yaml"), gateway, daemon) for daemon in (ON, OFF, UNKNOWN)]
    codes = [[code(one) for one in findings] for findings in found]
    assert codes == [["ok", "daemon_unreachable"], ["daemon_not_running"], ["daemon_unknown"]]
    assert found[0][0].text == "gatewayd is running (process 77)"


def test_for_whom_permissions_are_judged(gateway: Gateway) -> None:
    running = LockHolder(runs=True, pid=os.getpid())
    assert find_account(gateway, running) == (Account.of_process(os.getpid()), "the user gatewayd runs as")
    owner = Account.of_user(gateway.state_dir.stat().st_uid)
    assert find_account(gateway, OFF) == (owner, f"the owner of {gateway.state_dir}")
    gone = gateway.model_copy(update={"state_dir": gateway.state_dir / "none"})
    assert find_account(gone, OFF)[1] == "the user running the doctor"


def test_as_an_ordinary_user_the_system_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def access(path: Path, want: int, *, effective_ids: bool) -> bool:
        asked.append((path, want, effective_ids))
        return want != ENTER

    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(os, "access", access)
    assert not BARN.obstacle(tmp_path, READ)
    assert BARN.obstacle(tmp_path, ENTER) == f"barn may not enter {tmp_path}"
    assert asked == [(tmp_path, READ, True), (tmp_path, ENTER, True)]
