"""`gatewayctl check-config` as a person or a script sees it."""

import errno
import faulthandler
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO

import click
import pytest
import yaml
from click.testing import CliRunner
from lab.configuration import Lab

from gatewayd.cli import check_config, daemon, options
from gatewayd.cli.exits import CONFIGURATION
from gatewayd.config.schema import schema_text


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    stdout: str
    stderr: str


Run = Callable[..., Outcome]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path)
    lab.settings()
    return lab


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> Outcome:
        try:
            check_config.command.main([str(argument) for argument in arguments], standalone_mode=False)
            code: object = 0
        except SystemExit as error:
            code = error.code
        except click.UsageError as error:
            code = error.exit_code
        assert isinstance(code, int)
        return Outcome(code, *capsys.readouterr())

    return run


def test_a_good_file(lab: Lab, run: Run) -> None:
    for arguments in ([lab.file], ["--config", lab.file]):
        result = run(*arguments)
        assert result == Outcome(0, f"{lab.file}: ok, 1 device\n", "")


def test_warnings_are_printed_and_do_not_fail(lab: Lab, run: Run) -> None:
    lab.tree["defaults"]["allow_downgrade"] = True
    lab.settings()
    result = run(lab.file)
    assert result.exit_code == 0
    assert (
        f"warning: {lab.file}:14: defaults.allow_downgrade: older firmware is accepted (pump-1)."
        in result.stdout
    )


def test_all_mistakes_go_to_stderr_with_78(lab: Lab, run: Run) -> None:
    lab.file.write_text("mqtt: {port: 0}\ndevices: [{}]\nkees: {}\n")
    result = run(lab.file)
    assert result.exit_code == 78
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 7
    assert lines[-1] == f"{lab.file}:3: kees: is not a known key. Did you mean keys?"


def test_a_missing_file_is_one_line_and_78(tmp_path: Path, run: Run) -> None:
    result = run("--config", tmp_path / "none.yaml")
    assert result.exit_code == 78
    assert result.stderr.count("\n") == 1
    assert "none.yaml: cannot be read: No such file or directory." in result.stderr


def test_the_default_file(lab: Lab, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    assert Path("/etc/gatewayd/config.yaml") == options.DEFAULT_CONFIG
    monkeypatch.setattr(options, "DEFAULT_CONFIG", lab.file)
    assert run().stdout == f"{lab.file}: ok, 1 device\n"


def test_json(lab: Lab, run: Run) -> None:
    result = run("--json", lab.file)
    file = str(lab.file)
    good = {"file": file, "files": [file], "ok": True, "devices": 1, "in_force": None, "warnings": []}
    assert json.loads(result.stdout) == good
    lab.file.write_text("mqtt: {host: broker}\ndevices: []\nkees: {}\n")
    result = run("--json", lab.file)
    assert result.exit_code == 78
    assert json.loads(result.stdout) == {
        "file": str(lab.file),
        "ok": False,
        "mistakes": [
            {
                "file": str(lab.file),
                "line": 3,
                "column": 1,
                "key_path": "kees",
                "message": "is not a known key",
                "suggestion": "Did you mean keys?",
            }
        ],
    }


def test_print_schema(run: Run) -> None:
    result = run("--print-schema")
    assert result.stdout == schema_text()


def test_two_files_are_a_usage_error(lab: Lab, run: Run) -> None:
    assert run("--config", lab.file, lab.file).exit_code == 2


def test_a_fragment_alone_is_a_usage_error(lab: Lab, run: Run) -> None:
    fragment = lab.folder / "conf.d" / "1.yaml"
    fragment.parent.mkdir()
    fragment.write_text("mqtt: {port: 1}\n")
    assert run(fragment).exit_code == 2
    assert run(lab.file).stdout == f"{lab.file}: ok, 1 device, with 1 file from conf.d\n"


# -- for another host


@pytest.fixture
def elsewhere(tmp_path: Path) -> Lab:
    """A configuration whose files are on the host, none of them here."""
    lab = Lab(tmp_path)
    lab.tree["gateway"] = {}
    lab.tree["mqtt"] |= {"client_id": "${hostname}-${machine_id}", "password_file": "/nowhere/password"}
    tls = ("ca_file", "cert_file", "key_file", "key_password_file")
    lab.tree["mqtt"]["tls"] = {name: f"/nowhere/{name}" for name in tls}
    lab.tree["keys"]["pump"] = dict.fromkeys(("decrypt_key_file", "verify_key_file"), "/nowhere/key")
    lab.tree["keys"]["all"] = {"ota_key_file": "credential:ota-key"}
    lab.file.write_text(yaml.safe_dump(lab.tree, sort_keys=False))
    return lab


def test_another_hosts_files_are_warned_about(elsewhere: Lab, run: Run) -> None:
    assert run(elsewhere.file).exit_code == 78
    result = run("--host", "barn-pi", elsewhere.file)
    assert (result.exit_code, result.stderr) == (0, "")
    *warnings, end = result.stdout.splitlines()
    assert end == f"{elsewhere.file}: ok, 1 device"
    missing = [line.split(": ")[2] for line in warnings if "was not checked: No such file" in line]
    assert missing == [
        "mqtt.password_file",
        *(f"mqtt.tls.{name}" for name in ("ca_file", "cert_file", "key_file", "key_password_file")),
        "keys.pump.decrypt_key_file",
        "keys.pump.verify_key_file",
        "keys.all.ota_key_file",
    ]
    # That they are not here is no reason to warn of what follows from it.
    assert len(warnings) == len(missing) + 1
    assert "also holds the signing key" in warnings[-1]
    assert "It must exist on barn-pi." in warnings[0]


def test_another_hosts_mistakes_are_mistakes(elsewhere: Lab, run: Run) -> None:
    elsewhere.tree["devices"][0]["keys"] = "pomp"
    elsewhere.file.write_text(yaml.safe_dump(elsewhere.tree, sort_keys=False))
    result = run("--host", "barn-pi", elsewhere.file)
    assert result.exit_code == 78
    assert "there is no key set pomp. Did you mean pump?" in result.stderr


def test_keys_that_are_here_in_part_are_not_judged(elsewhere: Lab, run: Run) -> None:
    """One decryption key for two applications is refused without verification keys: these are elsewhere."""
    elsewhere.tree["keys"] = {
        name: {"decrypt_key_file": "decrypt.key.bin", "verify_key_file": f"/nowhere/{name}"}
        for name in ("pump", "tank")
    }
    tank = elsewhere.device("tank-1", app_id="tank", keys="tank")
    elsewhere.tree["devices"].append(tank)
    elsewhere.file.write_text(yaml.safe_dump(elsewhere.tree, sort_keys=False))
    assert run("--host", "barn-pi", elsewhere.file).exit_code == 0


def test_files_of_another_host_that_are_here_are_read(elsewhere: Lab, run: Run) -> None:
    elsewhere.tree["mqtt"] |= {"password_file": "password"}
    (elsewhere.folder / "password").chmod(0o644)
    elsewhere.file.write_text(yaml.safe_dump(elsewhere.tree, sort_keys=False))
    result = run("--host", "barn-pi", elsewhere.file)
    assert result.exit_code == 78
    assert "is readable by everybody" in result.stderr


def test_a_name_or_an_identifier_that_cannot_be_is_a_usage_error(elsewhere: Lab, run: Run) -> None:
    for words in (["--host", "a b"], ["--machine-id", "5" * 32], ["--host", "a", "--machine-id", "5"]):
        assert run(*words, elsewhere.file).exit_code == 2
    assert run("--host", "a", "--machine-id", "5" * 32, elsewhere.file).exit_code == 0


@pytest.mark.parametrize("program", [check_config, daemon], ids=lambda one: one.__name__)
def test_a_file_that_is_closed_to_us_is_a_mistake_that_only_a_person_can_mend(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, program: ModuleType
) -> None:
    """With 2, for wrong usage, systemd would start the daemon again for ever."""

    def refuse(*_: object) -> IO[bytes]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(faulthandler, "enable", lambda: None)  # there is no terminal here
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(Path, "open", refuse)
    done = CliRunner().invoke(program.command, ["--config", str(lab.file)])
    assert done.exit_code == CONFIGURATION
    assert "cannot be read: Permission denied. Check its permissions." in done.output
