"""The password file: what may be in it, and who may read it."""

import os
import stat
from pathlib import Path

import pytest
from lab.containers import gatewayctl
from lab.control_schema import check_printed

from gatewayd.errors import ConfigError, GatewaydError
from gatewayd.web.passwords import Hashed, PasswordFile, set_password


def test_a_password_is_kept_as_a_hash_with_a_salt_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    set_password(file, "alice", "correct horse")
    set_password(file, "bob", "correct horse")
    text = file.read_text()
    assert "horse" not in text
    alice, bob = (line.partition(":")[2] for line in text.splitlines())
    assert alice != bob
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    passwords = PasswordFile(file)
    assert passwords.check("alice", "correct horse")
    assert not passwords.check("alice", "correct horsE")
    assert not passwords.check("carol", "correct horse")


def test_a_hash_survives_being_written_and_read() -> None:
    hashed = Hashed.of("correct horse")
    assert Hashed.parse(str(hashed)) == hashed


def test_the_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    set_password(file, "alice", "correct horse")
    passwords = PasswordFile(file)
    assert passwords.check("alice", "correct horse")
    set_password(file, "alice", "other horse")
    assert not passwords.check("alice", "correct horse")
    file.unlink()
    assert not passwords.check("alice", "other horse"), "nobody is let in without a file"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o620])
def test_a_file_that_others_may_read_or_the_group_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "passwords"
    set_password(file, "alice", "correct horse")
    file.chmod(mode)
    with pytest.raises(GatewaydError, match=f"has mode {mode:04o}") as refused:
        PasswordFile(file).load()
    assert refused.value.code == "file_exposed"


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:secret",
        "alice:scrypt:16384:8:1:AAAA",
        "alice:scrypt:1073741824:8:1:AAAA:AAAA",
        "alice:scrypt:16384:8:1:!:AAAA",
        "a b:scrypt:16384:8:1:AAAA:AAAA",
    ],
)
def test_a_line_that_is_none_is_named_and_not_repeated(tmp_path: Path, line: str) -> None:
    file = tmp_path / "passwords"
    file.write_text(f"# people\n\n{line}\n")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=r"passwords:3: not a line of a password file") as refused:
        PasswordFile(file).load()
    assert "secret" not in str(refused.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read") as refused:
        PasswordFile(tmp_path / "nothing").load()
    assert refused.value.code == "file_unreadable"
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "bytes").chmod(0o600)
    with pytest.raises(ConfigError, match="not text"):
        PasswordFile(tmp_path / "bytes").load()


@pytest.mark.parametrize("name", ["", "a:b", "a b", "-x", "x" * 33, "ä", "a\nb"])
def test_a_name_that_the_file_cannot_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name"):
        set_password(tmp_path / "passwords", name, "correct horse")
    assert not (tmp_path / "passwords").exists()


@pytest.mark.parametrize("password", ["", "7 chars", "x" * 257])
def test_a_password_that_is_no_good(tmp_path: Path, password: str) -> None:
    with pytest.raises(ConfigError, match="8 to 256 characters"):
        set_password(tmp_path / "passwords", "alice", password)


def test_the_command_sets_and_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "passwords"
    for words, said in (((), "alice can sign in"), (("--remove",), "alice can no longer sign in")):
        reading, writing = os.pipe()
        os.write(writing, b"correct horse\n")
        os.close(writing)
        with os.fdopen(reading) as source:
            monkeypatch.setattr("sys.stdin", source)
            ran = gatewayctl("web-password", file, "alice", *words)
        assert (ran.exit_code, ran.out, ran.err) == (0, f"{file}: {said}\n", "")
        assert bool(PasswordFile(file).load()) == (not words)
    ran = gatewayctl("web-password", file, "alice", "--remove", "--json")
    assert check_printed("web-password", ran.out) == {"file": str(file), "name": "alice", "removed": True}
