"""What there is in the machine beside gatewayd: a broker with TLS, devices on ptys, keys, firmware."""

import json
import random
import re
import shutil
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

from lab.certificates import Authority, Identity
from lab.deb import ROOT

from suites.system.machine import Machine, until
from suites.system.readme import read
from suites.system.tree import LAB

RCP_DEVICE = ROOT / "device" / "build" / "rcp-device"
DROP_IN = "/run/systemd/system/gatewayd.service.d/test.conf"
UPDATED_S = 180.0
IMAGE_BYTES = 240_000
# A transfer of ten seconds: on a busy machine long enough to be seen and interrupted.
RATE = 24_000
# 40 seconds: apt unpacks for up to 15 on a busy machine before it restarts the service.
OUTLASTS_APT_BYTES = 40 * RATE
# Every client has a certificate, and is called what it says.
MOSQUITTO = f"""
per_listener_settings true
listener 8883
cafile /{LAB}/ca.pem
certfile /{LAB}/broker.pem
keyfile /{LAB}/broker.key
require_certificate true
use_identity_as_username true
"""
EDITOR = f"""
#!/bin/sh
cat /{LAB}/config.yaml >"$1"
"""
CONFIG = """
gateway:
  id: barn-pi
mqtt:
  host: localhost
  tls:
    pins: ["{pin}"]
    cert_file: credential:gatewayd.client.pem
    key_file: credential:gatewayd.client.key
keys:
  pump:
    decrypt_key_file: credential:gatewayd.decrypt.key.bin
    verify_key_file: /etc/gatewayd/verify.key.bin
devices:
  - name: pump-1
    app_id: pump
    version: "4.3.1"
    payload: advanced
    keys: pump
    link: {{uart: {port}, baud: 115200}}
"""


class Scene:
    """One machine, its broker, its device `pump-1`, and what was published for it so far."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.broker = Authority()
        self.readme = read()
        self._patch = 2  # what README.md publishes
        self.image = b""

    # -- before it boots

    def lay_out(self) -> None:
        """Put the C receiver, certificates and what README.md supposes into the tree."""
        lab = self.machine.tree / LAB
        broker = self.broker.vouch("localhost")
        client = self.broker.vouch("barn-pi")
        (lab / "ca.pem").write_bytes(self.broker.pem)
        self._write(lab, "broker", broker)
        self._write(lab, "client", client)
        (lab / "broker.key").chmod(0o644)  # mosquitto drops its privileges before it reads it
        lab.parent.chmod(0o755)
        shutil.copy(RCP_DEVICE, self.machine.tree / "usr" / "local" / "bin")
        self.pin = broker.pin
        etc = self.machine.tree / "etc"
        (etc / "hosts").write_text("127.0.0.1 localhost broker.example.com\n")
        # What a person answers, and types.
        (etc / "apt" / "apt.conf.d" / "lab").write_text('APT::Get::Assume-Yes "true";\n')
        (lab / "config.yaml").write_text(self.readme.config)
        self.put("/usr/local/bin/editor", EDITOR, 0o755)

    def _write(self, lab: Path, name: str, identity: Identity) -> None:
        identity.write(lab, name)

    # -- what runs in it

    def secure_broker(self) -> None:
        """Let mosquitto listen with TLS, and to nobody without a certificate."""
        self.put("/etc/mosquitto/conf.d/lab.conf", MOSQUITTO)
        self.machine.run("systemctl", "restart", "mosquitto")

    def start_device(self) -> None:
        """Plug `pump-1` in: a pty that belongs to dialout, as a serial port does."""
        flags = ("--app-id", "pump", "--version", "4.3.1", "--slot-address", "0x2000", "--rate", str(RATE))
        port = self.readme.port
        where = ("--port", port, "--state", "/var/lib/pump-1")
        self.machine.tree_path(port).parent.mkdir(parents=True)
        self.machine.run("systemd-run", "--unit=pump-1", "/usr/local/bin/rcp-device", *where, *flags)
        until(self.machine.tree_path(port).is_symlink, "the device makes its port")
        self.machine.shell(f"chgrp dialout $(realpath {port}); chmod 660 $(realpath {port})")

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the machine."""
        file = self.machine.tree_path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"))
        file.chmod(mode)

    def configure(self, *, more: str = "") -> None:
        """Write gatewayd's configuration, into the file as it is: owner and mode stay."""
        self.machine.tree_path("/etc/gatewayd/config.yaml").write_text(
            CONFIG.format(pin=self.pin, port=self.readme.port) + more
        )

    def drop_in(self, text: str) -> None:
        """Give gatewayd's unit a drop-in of the test, or with an empty text none; restart it."""
        self.machine.run("rm", "-f", DROP_IN)
        if text:
            self.put(DROP_IN, text)
        self.machine.shell("systemctl daemon-reload; systemctl restart gatewayd")

    # -- updates

    def publish(self, image_bytes: int = IMAGE_BYTES) -> str:
        """Publish the next version for `pump-1`; returns it."""
        self._patch += 1
        version = f"4.3.{self._patch}"
        self.image = random.Random(self._patch).randbytes(image_bytes)
        self.machine.tree_path(f"/{LAB}/rom.bin").write_bytes(self.image)
        self.machine.shell(
            f"cd /{LAB}; gatewayctl pack --key ota.key -o pump.ota 0x2000=rom.bin;"
            f" gatewayctl publish --config /etc/gatewayd/config.yaml --app pump --version {version} pump.ota"
        )
        return version

    def begin_update(self, image_bytes: int = IMAGE_BYTES) -> str:
        """Publish, and return the version when a part of it is on the device and the rest is not."""
        version = self.publish(image_bytes)
        until(lambda: 20 <= (self.device()["progress"] or 0) < 80, f"the transfer of {version} is under way")
        return version

    def await_updated(self, version: str) -> None:
        """Wait until the device runs what was published last, byte for byte, and says so."""
        until(lambda: self._runs(version), f"pump-1 runs {version}", UPDATED_S)
        active = self.machine.tree_path("/var/lib/pump-1/active.bin").read_bytes()
        assert active == self.image, "the device runs something else than was published"

    def _runs(self, version: str) -> bool:
        device = self.device()
        return device.get("installed_version") == version and device["state"] in ("idle", "succeeded")

    def await_resumed(self, version: str, since: str) -> int:
        """Wait until it is updated; returns where the last transfer since then went on, which is not 0."""
        self.await_updated(version)
        entries = self.entries("DEVICE=pump-1", "--after-cursor", since)
        offsets = [int(entry["OFFSET"]) for entry in entries if "OFFSET" in entry]
        assert offsets, "no transfer was begun again"
        assert offsets[-1] > 0, f"it began again at {offsets}"
        return offsets[-1]

    # -- what is so

    def device(self) -> dict[str, Any]:
        """What gatewayctl says of `pump-1`; nothing while gatewayd does not answer."""
        done = self.machine.run("gatewayctl", "devices", "--json", check=False)
        devices = json.loads(done.stdout)["devices"] if done.returncode == 0 else []
        return next((one for one in devices if one["name"] == "pump-1"), {"state": None, "progress": None})

    def jobs(self) -> dict[int, str]:
        """The version of each job that gatewayd knows."""
        done = self.machine.run("gatewayctl", "jobs", "--json")
        return {one["id"]: one["version"] for one in json.loads(done.stdout)["jobs"]}

    def ctl_as(self, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run gatewayctl as a user of the machine."""
        become = ("setpriv", "--reuid", user, "--regid", user, "--init-groups")
        return self.machine.run(*become, "gatewayctl", *words, check=False)

    def property(self, name: str, unit: str = "gatewayd") -> str:
        """What systemd says of a unit."""
        return self.machine.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """What the journal has on gatewayd, with all that was said before."""
        self.machine.run("journalctl", "--sync")
        done = self.machine.run("journalctl", "-u", "gatewayd", "-o", "json", "--all", *matches)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def now(self) -> str:
        """The journal's place, after all that was said before."""
        self.machine.run("journalctl", "--sync")
        lines = self.machine.run("journalctl", "-n", "1", "--show-cursor", "-q").stdout.splitlines()
        return lines[-1].removeprefix("-- cursor: ")

    def timed(self, *command: str) -> float:
        """Run a command in the machine; returns how long it took."""
        begun = time.monotonic()
        self.machine.run(*command)
        return time.monotonic() - begun


def exposure(scene: Scene, unit: str) -> float:
    """Return what systemd makes of a unit's sandbox."""
    said = scene.machine.run("systemd-analyze", "security", "--no-pager", unit).stdout
    return float(re.findall(r"Overall exposure level.*?: ([0-9.]+)", said)[-1])
