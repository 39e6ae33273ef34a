"""`gatewayctl doctor` as a person or a script sees it."""

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import click
import jsonschema
import pytest
from lab.brokers import Mosquitto
from lab.configuration import Lab

from gatewayd.cli.ctl import cli
from gatewayd.cli.doctor import layout
from gatewayd.config import ConfigErrors, Mistake
from gatewayd.doctor import DoctorReport, Finding, Level, examination


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    stdout: str


def run(*words: object) -> Outcome:
    with redirect_stdout(io.StringIO()) as stdout, pytest.raises(SystemExit) as ended:
        cli.main(["doctor", *map(str, words)], standalone_mode=False)
    assert isinstance(ended.value.code, int)
    return Outcome(ended.value.code, stdout.getvalue())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    lab.tree["gateway"]["state_dir"] = "state"
    with Mosquitto(tmp_path / "mosquitto") as mosquitto:
        lab.tree["mqtt"]["port"] = mosquitto.port
        yield lab


def test_without_failures_it_exits_with_0(lab: Lab) -> None:
    lab.tree["devices"] = []
    lab.settings()
    result = run("--config", lab.file)
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ok       configuration:")
    starts = [line.split()[1].rstrip(":") for line in lines if not line.startswith(" ")]
    assert list(dict.fromkeys(starts)) == [
        *("configuration", "broker", "TLS", "login", "last", "statuses", "subscriptions", "marker", "clock"),
        "account",
        *("password", "key", "state_dir", "disk", "database", "SQLite", "daemon", "watchdog"),
    ]
    assert "\x1b" not in result.stdout, "colour is for terminals"


def test_one_failure_makes_it_1(lab: Lab) -> None:
    lab.settings()  # pump-1's port is not there
    result = run("--config", lab.file)
    assert result.exit_code == 1
    assert "\nfailure  pump-1: /dev/pump-1 does not exist\n         → plug it in; " in result.stdout
    assert result.stdout.count("failure  ") == 1, "all the rest is looked at, too"
    assert "\nwarning  watchdog: " in result.stdout


def test_a_bad_configuration_is_78_and_what_needs_none_is_looked_at(lab: Lab) -> None:
    lab.tree["devices"][0]["version"] = "4.3"
    lab.tree["mqtt"]["prot"] = 1
    assert lab.errors()
    result = run("--config", lab.file)
    assert result.exit_code == 78
    assert result.stdout.count("failure  configuration:") == 2
    assert "→ Did you mean port?\n" in result.stdout
    assert "SQLite: " in result.stdout


def test_a_missing_configuration_is_78(tmp_path: Path) -> None:
    result = run("--config", tmp_path / "none.yaml", "--json")
    assert result.exit_code == 78
    document = json.loads(result.stdout)
    assert document["ok"] is False
    assert document["findings"][0]["code"] == "bad_configuration"


def test_a_file_that_is_closed_to_this_user_may_be_open_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path) -> None:
        raise ConfigErrors([Mistake(path, 0, 0, "", "cannot be read: Permission denied", "Check it")])

    monkeypatch.setattr(examination, "load", load)
    (first, *_) = json.loads(run("--config", tmp_path, "--json").stdout)["findings"]
    assert first["hint"] == "Check it; or run the doctor as root, or as the user that gatewayd runs as"


def test_a_secret_that_everybody_can_read_is_told_with_the_remedy(lab: Lab) -> None:
    lab.settings()
    (lab.folder / "decrypt.key.bin").chmod(0o644)
    document = json.loads(run("--config", lab.file, "--json").stdout)
    (first,) = [one for one in document["findings"] if one["level"] == "failure"]
    assert "is readable by everybody" in first["text"]
    assert first["hint"].startswith("Run: chown gatewayd ")


def test_json_is_what_its_schema_says(lab: Lab) -> None:
    lab.settings()
    result = run("--config", lab.file, "--json")
    document = json.loads(result.stdout)
    jsonschema.validate(document, DoctorReport.model_json_schema())
    assert (result.exit_code, document["ok"]) == (1, False)
    for finding in document["findings"]:
        assert (finding["level"] == "ok") == (finding["code"] is None) == (finding["hint"] is None)


def test_warnings_of_the_configuration_are_told(lab: Lab) -> None:
    lab.tree["defaults"]["allow_downgrade"] = True
    lab.settings()
    document = json.loads(run("--config", lab.file, "--json").stdout)
    assert [one["code"] for one in document["findings"]].count("unwise") == 1


LONG = Finding(
    subject="pump-1",
    level=Level.FAILURE,
    code="x",
    text="word " * 40 + "/dev/serial/by-id/" + "x" * 90,
    hint="stop\nthat " * 20,
)


def test_it_fits_80_columns_and_never_cuts_a_path() -> None:
    lines = click.unstyle(layout(LONG, 80)).splitlines()
    assert lines[0].startswith("failure  pump-1: word word")
    assert all(line.startswith("         ") for line in lines[1:])
    too_long = [line.strip() for line in lines if len(line) > 80]
    assert too_long == ["/dev/serial/by-id/" + "x" * 90]
    assert sum(line.lstrip().startswith("→ stop?that") for line in lines) == 1
