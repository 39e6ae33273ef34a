"""The role in docs/ansible, by the real ansible-playbook, for two gateways with running daemons."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from lab.containers import KEY

from gatewayd.control.client import DaemonUnreachable, ask
from gatewayd.control.messages import DevicesResult
from gatewayd.control.requests import Devices

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
        self._log = (self.etc / "log").open("wb")
        command = [sys.executable, "-m", "gatewayd.cli.daemon", "--config", str(self.etc / "config.yaml")]
        self._process = subprocess.Popen(command, stderr=self._log)

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
        self._process.terminate()
        self._process.wait(DEADLINE_S)
        self._log.close()

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
            "gatewayd_ctl": str(BIN / "gatewayctl"),
        }
        keys = folder / "keys"
        keys.mkdir()
        for name, host in self.hosts.items():
            self.group["hosts"][name] |= {
                "gatewayd_etc": str(host.etc),
                "gatewayd_gateway": host.gateway,
                "gatewayd_reload": [str(BIN / "gatewayctl"), "--socket", str(host.socket), "reload"],
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
            command, env=surroundings, capture_output=True, text=True, check=False, timeout=100
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


@pytest.mark.timeout(300)
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
    assert {(shed.etc / name).stat().st_mode & 0o777 for name in files} == {0o640}
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
