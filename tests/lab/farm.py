"""A whole gateway for tests: mosquitto, the daemon and virtual devices, each a process, in one folder."""

import asyncio
import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiomqtt
import yaml

from gatewayd.ota.keys import OtaKey
from lab.brokers import Mosquitto
from lab.rogues import KINDS
from lab.tree import ROOT, with_tests_on_path

SMING = ROOT / "tests" / "vectors" / "sming"
RCP_DEVICE = ROOT / "device" / "build" / "rcp-device"
# Far beyond what anything here takes on a busy machine; what runs into it is broken.
DEADLINE_S = 120.0
KEY = OtaKey(bytes(range(32)), bytes(range(32, 64)))
RECEIVERS = ("c", "python")


def image_of(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def receiver_command(receiver: str) -> list[str]:
    if receiver in ("c", "restarts"):  # who is not there would be waited for, by each test for a minute
        assert RCP_DEVICE.exists(), f"{RCP_DEVICE} is not built: run `make -C device` first"
    if receiver in KINDS:
        return [sys.executable, "-m", "lab.rogues", receiver]
    if receiver == "c":
        return [str(RCP_DEVICE)]
    if receiver == "smp":
        return [sys.executable, "-m", "gatewayd.cli.ctl", "simulate", "uart", "--protocol", "smp"]
    return [sys.executable, "-m", "gatewayd.cli.ctl", "simulate", "uart"]


def whole_lines(log: str) -> list[str]:
    """Return the lines of a log without one that is just being written."""
    return log[: log.rfind("\n") + 1].splitlines()


class VirtualDevice:
    """A virtual device's process; its folder survives it."""

    def __init__(self, folder: Path, name: str, receiver: str = "c", **flags: object) -> None:
        self.name = name
        self.port = folder / f"port-{name}"
        self.state = folder / f"device-{name}"
        self.log = folder / f"device-{name}.log"
        defaults = {"app-id": "pump", "version": "4.3.1", "rate": 0}
        named = {key.replace("_", "-"): value for key, value in flags.items()}
        self._flags = defaults | named | {"port": self.port, "state": self.state}
        self._receiver = receiver
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        words = [
            word for key, value in self._flags.items() if value is not False for word in _flag(key, value)
        ]
        with self.log.open("ab") as log:
            command = [*receiver_command(self._receiver), *words]
            self.process = subprocess.Popen(command, env=with_tests_on_path(), stdout=log, stderr=log)
        return self

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
        if self.process is not None:
            self.process.wait(DEADLINE_S)
        # What a kill leaves behind would soon lead to another test's port: the kernel gives numbers again.
        self.port.unlink(missing_ok=True)

    @property
    def active(self) -> bytes | None:
        path = self.state / "active.bin"
        return path.read_bytes() if path.exists() else None

    def config(self, **settings: Any) -> dict[str, Any]:
        """A device of the configuration that reaches this one; `link` is merged."""
        link = {"uart": str(self.port), **settings.pop("link", {})}
        app, version = self._flags["app-id"], self._flags["version"]
        return (
            {"name": self.name, "app_id": app, "version": version, "payload": "advanced", "keys": "k"}
            | settings
            | {"link": link}
        )


def _flag(key: str, value: object) -> list[str]:
    return [f"--{key}"] if value is True else [f"--{key}", str(value)]


class Gateway:
    """The daemon's process, its configuration, and what it reports.

    `preset` is Python that runs before the daemon: where a constant is too long for a test to wait.
    """

    def __init__(self, folder: Path, broker: Mosquitto, name: str = "barn") -> None:
        self.folder = folder
        self.broker = broker
        self.name = name
        self.config_file = folder / "config.yaml"
        self.config: dict[str, Any] = {
            "gateway": {"id": name, "state_dir": "state", "control_socket": "control.sock"},
            "mqtt": {"host": "127.0.0.1", "port": broker.port},
            "keys": {"k": {"decrypt_key_file": "decrypt.key.bin", "verify_key_file": "verify.key.bin"}},
            "devices": [],
        }
        self.preset = ""
        self.status: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[str, dict[str, Any]]] = []
        self.gateway_status = ""
        self.gateway_statuses: list[str] = []
        self.gateway_report: dict[str, Any] = {}
        self.news = asyncio.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.write_keys(KEY.decrypt_key, KEY.verify_key)
        (folder / "ota.key").write_bytes(KEY.to_file())
        (folder / "ota.key").chmod(0o600)

    def write_keys(self, decrypt: bytes, verify: bytes) -> None:
        for name, content in (("decrypt.key.bin", decrypt), ("verify.key.bin", verify)):
            (self.folder / name).write_bytes(content)
            (self.folder / name).chmod(0o600)

    def start(self) -> None:
        self.write()
        self.run()

    def write(self) -> None:
        """Write the configuration as it is held."""
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def run(self) -> None:
        """Start it with the configuration that is there."""
        with (self.folder / "gatewayd.log").open("ab") as log:
            program = ["-m", "gatewayd.cli.daemon"]
            if self.preset:
                program = ["-c", f"{self.preset}\nfrom gatewayd.cli.daemon import main\nmain()"]
            command = [sys.executable, *program, "--config", str(self.config_file), "--verbose"]
            self.started_at = time.time()
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)

    def stop(self, number: int = signal.SIGTERM, limit_s: float = DEADLINE_S) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(limit_s)

    def ctl(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gatewayd.cli.ctl", *map(str, words)]
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=DEADLINE_S, check=check
        )

    def pack(self, image: bytes, *options: str, address: int = 0x2000) -> Path:
        (self.folder / "rom.bin").write_bytes(image)
        out = self.folder / "firmware.ota"
        self.ctl("pack", "--key", "ota.key", *options, "-o", out, f"{address:#x}=rom.bin")
        return out

    def publish(self, container: Path, version: str, app: str = "pump", *options: str) -> None:
        config = ("--config", self.config_file)
        self.ctl("publish", "--force", *config, "--app", app, "--version", version, *options, container)

    async def send(self, topic: str, payload: bytes, qos: int = 1) -> None:
        async with aiomqtt.Client("127.0.0.1", self.broker.port) as client:
            await client.publish(topic, payload, qos=qos, retain=True)

    async def until(self, reached: Callable[[], object], what: str = "", limit_s: float = DEADLINE_S) -> None:
        """Wait for a condition on what is reported; fails with the reports and the log's end."""
        try:
            async with asyncio.timeout(limit_s):
                while not reached():
                    assert self._is_well(), (
                        f"the daemon ended: {(self.folder / 'gatewayd.log').read_text()[-2000:]}"
                    )
                    self.news.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.news.wait(), 0.1)
        except TimeoutError:
            log = (self.folder / "gatewayd.log").read_text()[-6000:]
            raise AssertionError(
                f"waited in vain for {what}; {json.dumps(self.status, indent=1)}\n{log}"
            ) from None

    def _is_well(self) -> bool:
        """Whether the daemon runs, or was ended by a test."""
        return self.process is None or self.process.poll() in (None, 0, -signal.SIGKILL)

    async def until_state(self, device: str, state: str, **more: object) -> dict[str, Any]:
        def reached() -> bool:
            status = self.status.get(device, {})
            return status.get("state") == state and all(
                status.get(key) == value for key, value in more.items()
            )

        await self.until(reached, f"{device} {state} {more}")
        return self.status[device]

    def jobs(self) -> list[tuple[str, str, str]]:
        """All jobs: device, version, state."""
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "gatewayd.db")) as database:
            return database.execute("SELECT device, version, state FROM jobs ORDER BY id").fetchall()

    def log_events(self, event: str) -> list[dict[str, Any]]:
        lines = whole_lines((self.folder / "gatewayd.log").read_text())
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry.get("event") == event]

    async def watch(self) -> None:
        """Follow what is reported; across restarts of the broker, too."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._watch()
            await asyncio.sleep(0.02)  # a broker that is gone takes a moment of real time to come back

    async def _watch(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self.broker.port) as client:
            await client.subscribe(f"gatewayd/{self.name}/#", qos=1)
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                topic = str(message.topic)
                if topic == f"gatewayd/{self.name}/status":
                    self.gateway_status = message.payload.decode()
                    self.gateway_statuses.append(self.gateway_status)
                elif topic == f"gatewayd/{self.name}/gateway":
                    self.gateway_report = json.loads(message.payload)
                elif message.payload and "/devices/" in topic:
                    name, status = topic.rsplit("/", 1)[1], json.loads(message.payload)
                    self.status[name] = status
                    self.history.append((name, status))
                self.news.set()


class Farm:
    """One gateway with the virtual devices started for it."""

    def __init__(self, folder: Path, gateway: Gateway) -> None:
        self.folder = folder
        self.gateway = gateway
        self.devices: list[VirtualDevice] = []

    def device(self, name: str, receiver: str = "c", **flags: object) -> VirtualDevice:
        device = VirtualDevice(self.folder, name, receiver, **flags).start()
        self.devices.append(device)
        return device

    def end(self) -> None:
        for device in self.devices:
            device.stop()


@asynccontextmanager
async def farm(folder: Path, name: str = "barn", *broker_options: str) -> AsyncIterator[Farm]:
    broker = Mosquitto(folder / "mosquitto", *broker_options).start()
    gateway = Gateway(folder, broker, name)
    watching = asyncio.create_task(gateway.watch())
    whole = Farm(folder, gateway)
    try:
        yield whole
    finally:
        while not watching.done():  # wait_for loses a cancellation that comes together with its end
            watching.cancel()
            await asyncio.wait([watching], timeout=0.1)
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.stop(signal.SIGKILL)
        whole.end()
        broker.stop()


def sming_vectors() -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Yield file name, manifest entry and message (patch header and container)."""
    for entry in json.loads((SMING / "manifest.json").read_text()):
        content = (SMING / entry["file"]).read_bytes()
        yield entry["file"], entry, bytes.fromhex(entry["varint"]) + content


def copy_sming_keys(folder: Path) -> None:
    for name in ("decrypt.key.bin", "verify.key.bin"):
        shutil.copyfile(SMING / name, folder / name)
        (folder / name).chmod(0o600)
