"""The script of docs/fleet.md that pulls a configuration, as it stands there, with git and a daemon."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from lab.desk import Desk, desk

PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.slow


class Repository:
    """A repository on the publisher's side, and the gateway's clone of it."""

    def __init__(self, folder: Path, barn: Desk) -> None:
        self.origin, self.clone, self.barn = folder / "origin", folder / "clone", barn
        (script,) = re.findall(
            r"^```sh\n(#!/bin/sh\n# \S*gatewayd-pull.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
        )
        self.script = folder / "gatewayd-pull"
        self.script.write_text(script)
        self.host = self.origin / "hosts" / socket.gethostname()
        (self.host / "conf.d").mkdir(parents=True)
        shared = self.origin / "shared.yaml"
        shared.write_text("defaults: {app_id: pump, payload: standard}\n")
        (self.host / "conf.d" / "10-shared.yaml").symlink_to(os.path.relpath(shared, self.host / "conf.d"))
        self.git("init", "--quiet", "--initial-branch=main")
        self.write([])
        subprocess.run(["git", "clone", "--quiet", self.origin, self.clone], check=True, capture_output=True)

    def git(self, *words: str) -> None:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
        subprocess.run(["git", *who, "-C", self.origin, *words], check=True, capture_output=True)

    def write(self, devices: list[dict[str, object]]) -> None:
        config = {"gateway": self.barn.gateway.config["gateway"], "mqtt": self.barn.gateway.config["mqtt"]}
        config["gateway"] |= {
            "state_dir": str(self.barn.folder / "state"),
            "control_socket": str(self.barn.socket),
        }
        (self.host / "config.yaml").write_text(json.dumps(config | {"devices": []}))
        (self.host / "conf.d" / "50-devices.yaml").write_text(json.dumps({"devices": devices}))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "another")

    def pull(self) -> subprocess.CompletedProcess[str]:
        group = str(os.getgid())
        surroundings = os.environ | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "GATEWAYD_SOCKET": str(self.barn.socket),
        }
        return subprocess.run(
            ["sh", self.script, self.clone, self.barn.folder, group],
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )


def a_pump(**values: object) -> dict[str, object]:
    return {"name": "pump-1", "version": "4.3.1", "link": {"uart": "/dev/pump-1"}} | values


def test_what_is_pulled_is_in_force_or_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with desk(tmp_path / "etc") as barn:
        barn.gateway.config |= {"keys": {}}
        repository = Repository(tmp_path, barn)
        (barn.folder / "config.yaml").write_text((repository.host / "config.yaml").read_text())
        barn.gateway.run()
        barn.until(barn.answers, "the daemon answers")

        repository.write([a_pump()])
        ran = repository.pull()
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.endswith("in force\n")
        assert list(barn.views()) == ["pump-1"]
        assert barn.views()["pump-1"].app_id == "pump", "the link was followed"
        assert not (barn.folder / "conf.d" / "10-shared.yaml").is_symlink()

        repository.write([a_pump(), a_pump(name="pump-2")])
        before = (barn.folder / "conf.d" / "50-devices.yaml").read_bytes()
        ran = repository.pull()
        assert ran.returncode == 78, ran.stderr
        assert "devices[1].link.uart" in ran.stderr
        assert (barn.folder / "conf.d" / "50-devices.yaml").read_bytes() == before
        assert list(barn.views()) == ["pump-1"]

        repository.write([a_pump(), a_pump(name="pump-2", link={"uart": "/dev/pump-2"})])
        assert repository.pull().returncode == 0
        assert list(barn.views()) == ["pump-1", "pump-2"]
        again = repository.pull()
        assert (again.returncode, barn.log().count('"event": "configuration reloaded"')) == (0, 2)
