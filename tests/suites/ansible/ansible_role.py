"""The role in docs/ansible, by the real ansible-playbook, for two gateways with running daemons."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from lab.containers import KEY

from gatewayd.control.client import DaemonUnreachable, ask
from gatewayd.control.messages import DevicesResult, StatusResult
from gatewayd.control.requests import Devices, Status

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "docs" / "ansible"
BIN = Path(sys.executable).parent
DEADLINE_S = 60.0


class Host:
    """A gateway as the package leaves it: no devices, and a daemon that runs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.etc = folder / name
        self.etc.mkdir()
        self.socket = self.etc / "control.sock"
        self.gateway = {"id": name, "state_dir": str(self.etc / "state"), "control_socket": str(self.socket)}
        conffile = {"gateway": self.gateway, "mqtt": {"host": "127.0.0.1", "port": 1}, "devices": []}
        (self.etc / "config.yaml").write_text(json.dumps(conffile))
        self.restart = self.etc / "restart"
        daemon = f"{sys.executable} -m gatewayd.cli.daemon --config {self.etc / 'config.yaml'}"
        self.restart.write_text(
            f"#!/bin/sh\ncd {self.etc}\n[ ! -e pid ] || kill $(cat pid)\n"
            "while [ -e pid ] && kill -0 $(cat pid) 2>/dev/null; do sleep 0.05; done\n"
            f"nohup {daemon} </dev/null >/dev/null 2>>log &\necho $! >pid\n"
        )
        self.restart.chmod(0o755)
        self.start()

    def start(self) -> None:
        subprocess.run([self.restart], check=True, timeout=DEADLINE_S)

    def status(self) -> StatusResult:
        return ask(self.socket, Status(), StatusResult)

    def devices(self) -> list[str]:
        return [device.name for device in ask(self.socket, Devices(), DevicesResult).devices]

    def await_ready(self) -> Self:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.devices()
            except DaemonUnreachable:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return self

    def end(self) -> None:
        pid = int((self.etc / "pid").read_text())
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + DEADLINE_S
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)

    def reloads(self) -> int:
        return (self.etc / "log").read_text().count('"event": "configuration reloaded"')

    def files(self) -> dict[str, bytes]:
        paths = [self.etc / "config.yaml", *(self.etc / "conf.d").iterdir(), *(self.etc / "keys").iterdir()]
        return {str(path.relative_to(self.etc)): path.read_bytes() for path in paths}


class Fleet:
    """The inventory of docs/ansible, on folders of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts = {name: Host(folder, name) for name in ("barn-pi", "shed-pi")}
        tree = json.dumps(yaml.safe_load((ROLE / "inventory.yml").read_text()))
        here = tree.replace("/etc/gatewayd", "{{ gatewayd_etc }}")
        self.group: dict[str, Any] = json.loads(here)["gateways"]
        self.group["vars"] |= {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "gatewayd_owner": str(os.getuid()),
            "gatewayd_group": str(os.getgid()),
            "gatewayd_user": str(os.getuid()),
            "gatewayd_package": "",  # what is to be tried is here already
            "gatewayd_ctl": str(BIN / "gatewayctl"),
        }
        keys = folder / "keys"
        keys.mkdir()
        for name, host in self.hosts.items():
            self.group["hosts"][name] |= {
                "gatewayd_etc": str(host.etc),
                "gatewayd_gateway": host.gateway,
                "gatewayd_reload": [str(BIN / "gatewayctl"), "--socket", str(host.socket), "reload"],
                "gatewayd_restart": [str(host.restart)],
            }
            (keys / f"{name}.mqtt-password").write_text(f"password of {name}\n")
        (keys / "pump.decrypt.key.bin").write_bytes(KEY.decrypt_key)
        (keys / "pump.verify.key.bin").write_bytes(KEY.verify_key)
        for host in self.hosts.values():
            host.await_ready()

    def play(self) -> tuple[int, str, dict[str, dict[str, int]]]:
        """Run the playbook; return its exit code, what it says, and the figures of each host."""
        (self.folder / "inventory.yml").write_text(json.dumps({"gateways": self.group}))
        inventory = str(self.folder / "inventory.yml")
        command = [str(BIN / "ansible-playbook"), "-i", inventory, str(ROLE / "site.yml")]
        surroundings = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
        }
        ran = subprocess.run(
            command, env=surroundings, capture_output=True, text=True, check=False, timeout=300
        )
        recap = re.findall(r"^(\S+) +: (.+)$", ran.stdout, re.MULTILINE)
        figures = {name: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", rest)} for name, rest in recap}
        return ran.returncode, ran.stdout + ran.stderr, figures


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    try:
        yield fleet
    finally:
        for host in fleet.hosts.values():
            host.end()


@pytest.mark.timeout(900)
def test_the_role(fleet: Fleet) -> None:
    barn, shed = fleet.hosts["barn-pi"], fleet.hosts["shed-pi"]
    stray = barn.etc / "conf.d" / "90-forgotten.yaml"
    stray.parent.mkdir()
    stray.write_text("mqtt: {host: elsewhere}\n")

    # The first run puts everything in place, and the daemons have it.
    code, said, figures = fleet.play()
    assert code == 0, said
    assert all(one["changed"] and not one["failed"] for one in figures.values()), said
    assert (barn.devices(), shed.devices()) == (["pump-1", "pump-2"], ["pump-3"])
    assert not stray.exists()
    files = sorted(shed.files())
    assert files == [
        *("conf.d/10-fleet.yaml", "conf.d/50-devices.yaml", "config.yaml", "keys/mqtt-password"),
        *("keys/pump.decrypt.key.bin", "keys/pump.verify.key.bin"),
    ]
    modes = {name: (shed.etc / name).stat().st_mode & 0o777 for name in files}
    assert {name for name in files if modes[name] == 0o600} == {name for name in files if "keys/" in name}
    assert set(modes.values()) == {0o600, 0o640}
    assert (shed.etc / "keys" / "mqtt-password").read_text() == "password of shed-pi\n"
    assert "password of" not in said

    # The second has nothing to do.
    code, said, figures = fleet.play()
    assert (code, [one["changed"] for one in figures.values()]) == (0, [0, 0]), said

    # A mistake at one host is told with file and line, and changes nothing there; the other host goes on.
    # A key that came before the mistake was found is in force all the same.
    before, reloads = barn.files(), barn.reloads()
    (fleet.folder / "keys" / "barn-pi.mqtt-password").write_text("another\n")
    fleet.group["hosts"]["barn-pi"]["gatewayd_devices"][1]["version"] = "4.3"
    fleet.group["hosts"]["shed-pi"]["gatewayd_devices"] = []
    code, said, figures = fleet.play()
    assert code != 0
    assert (figures["barn-pi"]["failed"], figures["shed-pi"]["failed"]) == (1, 0), said
    assert "conf.d/50-devices.yaml:4: devices[1].version" in said
    assert barn.files() == before | {"keys/mqtt-password": b"another\n"}
    assert barn.reloads() == reloads + 1
    assert (barn.devices(), shed.devices()) == (["pump-1", "pump-2"], [])

    # What a running daemon cannot take over gets the restart that it needs, and nothing else does.
    fleet.group["hosts"]["barn-pi"]["gatewayd_devices"][1]["version"] = "4.3.1"
    before_at = shed.status().started_at, shed.status().pid
    fleet.group["hosts"]["barn-pi"]["gatewayd_gateway"] = barn.gateway | {"id": "stable-pi"}
    fleet.group["hosts"]["barn-pi"]["gatewayd_adapters"] = {"hci0": {"max_connections": 2}}
    code, said, figures = fleet.play()
    assert code == 0, said
    assert (barn.status().gateway, figures["barn-pi"]["failed"]) == ("stable-pi", 0)
    assert (shed.status().started_at, shed.status().pid) == before_at

    # A daemon that is down is started. As long as what was written is not in force, each run fails.
    barn.end()
    code, said, figures = fleet.play()
    assert (code, barn.status().gateway) == (0, "stable-pi"), said
    assert figures["shed-pi"]["changed"] == 0
    fleet.group["vars"] |= {"gatewayd_reload": ["true"], "gatewayd_restart": ["true"]}
    for host in fleet.group["hosts"].values():
        del host["gatewayd_reload"], host["gatewayd_restart"]
    fleet.group["hosts"]["barn-pi"]["gatewayd_devices"] = []
    for _ in range(2):
        code, said, figures = fleet.play()
        assert (code != 0, figures["barn-pi"]["failed"], figures["shed-pi"]["failed"]) == (True, 1, 0), said
        assert "not_in_force" in said
