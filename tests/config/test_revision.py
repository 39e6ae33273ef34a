"""The revision of a configuration: what it depends on, and what it does not."""

import json
from pathlib import Path
from typing import Any

import pytest
from lab.containers import gatewayctl

from gatewayd.config import Settings, load
from gatewayd.config.revision import revision_of


def written(folder: Path, text: str = "", **more: Any) -> Settings:
    tree: dict[str, Any] = {
        "gateway": {"id": "barn"},
        "mqtt": {"host": "127.0.0.1", "username": "barn", "password_file": "password"},
        "devices": [{"name": "p", "app_id": "pump", "version": "1.0.0", "link": {"uart": "/dev/ttyUSB0"}}],
    }
    folder.mkdir(exist_ok=True)
    password = folder / "password"
    password.write_text("secret")
    password.chmod(0o600)
    file = folder / "config.yaml"
    file.write_text(json.dumps(tree | more) + text)
    return load(file)


def test_comments_defaults_written_out_and_a_password_do_not_change_it(tmp_path: Path) -> None:
    before = revision_of(written(tmp_path))
    assert before == revision_of(written(tmp_path, "  # a comment"))
    assert before == revision_of(written(tmp_path, adapters={}, keys={}))
    (tmp_path / "password").write_text("another")
    assert before == revision_of(load(tmp_path / "config.yaml"))


def test_any_value_changes_it(tmp_path: Path) -> None:
    first = written(tmp_path)
    assert revision_of(first) != revision_of(written(tmp_path, gateway={"id": "shed"}))
    assert revision_of(first) != revision_of(written(tmp_path, adapters={"hci0": {}}))
    assert revision_of(first) != revision_of(written(tmp_path, devices=[]))


def test_a_path_is_the_same_path_from_wherever_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = revision_of(written(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert revision_of(load(Path("config.yaml"))) == revision


def test_it_is_printed(tmp_path: Path) -> None:
    revision = revision_of(written(tmp_path))
    file = str(tmp_path / "config.yaml")
    assert gatewayctl("config", "--effective", file).out.splitlines()[1] == f"# revision {revision}"
    assert json.loads(gatewayctl("config", "--effective", file, "--json").out)["revision"] == revision
