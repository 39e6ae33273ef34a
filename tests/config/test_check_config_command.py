"""`gatewayctl check-config` as a person or a script sees it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from config_lab import Lab

from gatewayd.cli import check_config
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
    assert Path("/etc/gatewayd/config.yaml") == check_config.DEFAULT_CONFIG
    monkeypatch.setattr(check_config, "DEFAULT_CONFIG", lab.file)
    assert run().stdout == f"{lab.file}: ok, 1 device\n"


def test_json(lab: Lab, run: Run) -> None:
    result = run("--json", lab.file)
    assert json.loads(result.stdout) == {"file": str(lab.file), "ok": True, "devices": 1, "warnings": []}
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
