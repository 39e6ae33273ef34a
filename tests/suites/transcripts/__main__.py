"""Records the terminal sessions in the documentation: `make transcripts` writes them, a test compares them.

A farm stands for a gateway called barn-pi: a real broker, the real daemon, C receivers on pseudo-terminals.
Its folder stands for the root of the file system (ctl.py), so paths read as they do on a gateway.
The story waits for states and never for time: a transfer that must not end while it is looked at is at 11520
bytes/s, and for the rest of it the device comes back on a faster line.
"""

import asyncio
import os
import random
import re
import shlex
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lab.farm import KEY, Farm, Gateway, VirtualDevice, farm
from lab.smp.recipes import Recipe, make_image

from gatewayd.ota.keys import OtaKey
from gatewayd.ota.patch import PatchEncoding, encode_patch
from suites.transcripts.ctl import as_on_a_gateway
from suites.transcripts.page import record_pages
from suites.transcripts.terminal import Terminal

GATEWAY = "barn-pi"
BY_ID = "dev/serial/by-id"
PORTS = {
    "pump-1": "usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0",
    "pump-2": "usb-FTDI_FT232R_USB_UART_A9048H2L-if00-port0",
    "tank-1": "usb-Silicon_Labs_CP2102N_8c1f20d9-if00-port0",
    "tank-2": "usb-Silicon_Labs_CP2102N_44a6c01b-if00-port0",
    "sensor-3": "usb-SEGGER_J-Link_000683912345-if00",
}
SLOW_BYTES_PER_S, FAST_BYTES_PER_S = 11_520, 92_160
# So late to answer that a job is still queued when `push` returns.
TANK: dict[str, Any] = {"app_id": "tank", "version": "2.0.7", "hardware_id": "tank-rev-a", "latency_ms": 30}
IMAGE = random.Random(1).randbytes(300_000)
SMALL_IMAGE = random.Random(2).randbytes(30_000)
# Signs otherwise, and encrypts alike.
STRANGERS_KEY = OtaKey(bytes(32), KEY.stream_key)

CONFIGURATION = """\
gateway:
  id: barn-pi
  state_dir: {root}/var/lib/gatewayd
  control_socket: {root}/run/gatewayd/control.sock
mqtt:
  host: 127.0.0.1
  port: {port}
keys:
  barn:
    decrypt_key_file: {root}/etc/gatewayd/decrypt.key.bin
    verify_key_file: {root}/etc/gatewayd/verify.key.bin
    allow_shared_key: true
defaults:
  payload: advanced
  keys: barn
  link: {{baud: 115200, transfer_baud: 921600}}
devices:
  - name: pump-1
    app_id: pump
    version: "4.3.1"
    link: {{uart: {root}/{by_id}/{pump_1}}}
  - name: pump-2
    app_id: pump
    version: "4.3.1"
    install: manual
    link: {{uart: {root}/{by_id}/{pump_2}}}
  - name: tank-1
    app_id: tank
    version: "2.0.7"
    link: {{uart: {root}/{by_id}/{tank_1}}}
"""
ANOTHER_DEVICE = """\
  - name: tank-2
    app_id: tank
    version: "2.0.7"
    instal: manual
    link: {{uart: {root}/{by_id}/{tank_2}}}
"""
# Slow enough for a look at its progress.
SENSOR_BYTES_PER_S = 11_520
A_SENSOR = """\
  - name: sensor-3
    app_id: sensor
    version: "1.2.3"
    payload: standard
    protocol: smp
    smp: {{boot_s: 2}}
    link: {{uart: {root}/{by_id}/{sensor_3}}}
"""


class Recorder:
    """Types commands on barn-pi, and keeps what they show."""

    def __init__(self, whole: Farm) -> None:
        self.recordings: dict[str, str] = {}
        self._root, self._port = str(whole.folder), str(whole.gateway.broker.port)
        self._home = whole.folder / "root"
        self._environment = os.environ | {
            "PATH": f"{whole.folder / 'bin'}:{os.environ['PATH']}",
            "TERM": "xterm",
            "NO_COLOR": "1",
            "LANG": "C.UTF-8",
            "GATEWAYD_SOCKET": str(whole.folder / "run/gatewayd/control.sock"),
            "TRANSCRIPT_ROOT": self._root,
            "TRANSCRIPT_BROKER_PORT": self._port,
        }

    async def type(self, name: str, command: str) -> None:
        """Record a command that ends by itself; several of one name follow each other."""
        async with self.terminal(command) as terminal:
            await terminal.ended()
            self.keep(name, command, terminal.text)

    def terminal(self, command: str) -> Terminal:
        """A terminal on which the command runs."""
        return Terminal(command, self._home, self._environment)

    def keep(self, name: str, command: str, shown: str) -> None:
        """Record what was shown for a command."""
        shown = as_on_a_gateway(shown, self._root, self._port).rstrip()
        before = self.recordings.get(name, "")
        gap = "\n" if before else ""
        self.recordings[name] = f"{before}{gap}$ {command}\n{shown}".rstrip() + "\n"


class Story:
    """What happens on barn-pi, in parts that follow each other."""

    def __init__(self, whole: Farm) -> None:
        self._folder = whole.folder
        self._farm = whole
        self._gateway: Gateway = whole.gateway
        self._recorder = Recorder(whole)
        self._devices: dict[str, VirtualDevice] = {}

    async def play(self) -> dict[str, str]:
        """Live through it all; return the recordings by name."""
        self._furnish()
        record = self._recorder.type
        self._plug("pump-1", version="4.3.1", rate=SLOW_BYTES_PER_S)
        self._plug("pump-2", version="4.3.1", rate=SLOW_BYTES_PER_S)
        await record("check-config", "gatewayctl check-config /etc/gatewayd/config.yaml")
        self._gateway.run()
        await self._gateway.until_state("pump-2", "idle")
        await self._gateway.until_state("pump-1", "idle")
        await self._gateway.until_state("tank-1", "unreachable")
        await record("doctor", "gatewayctl doctor --config /etc/gatewayd/config.yaml")
        await self._look_at_a_transfer()
        await self._interrupt()
        await self._go_on()
        await self._ask_why()
        await self._update_by_hand()
        await self._find_and_configure()
        await self._update_over_smp()
        await record("completion", "gatewayctl completion bash | head -n 3")
        self._gateway.stop()
        await record("stopped", "gatewayctl devices; echo $?")
        return self._recorder.recordings

    # -- the parts

    async def _look_at_a_transfer(self) -> None:
        record = self._recorder.type
        self._gateway.publish(self._pack(IMAGE), "4.3.2")
        await self._until_percent("pump-1", 5)
        await record("devices", "gatewayctl devices")
        await record("devices-json", "gatewayctl devices pump-1 --json | python3 -m json.tool")
        await record("approve", "gatewayctl approve pump-2")
        await self._until_percent("pump-2", 5)
        async with self._recorder.terminal("gatewayctl watch") as terminal:
            moving = re.compile(r"^pump-\d [━╸]+ +\d+ % .*/s", re.MULTILINE)
            await terminal.until(lambda: len(moving.findall(terminal.screen)) == 2, "two bars")
            self._recorder.keep("watch-bars", "gatewayctl watch", terminal.screen)
            terminal.press_ctrl_c()
            await terminal.ended()

    async def _interrupt(self) -> None:
        record = self._recorder.type
        await record("pause", "gatewayctl pause pump-1")
        await self._gateway.until_state("pump-1", "queued", paused=True)
        await record("pause", "gatewayctl devices pump-1")
        await record("cancel", "gatewayctl cancel pump-2")
        await record("cancel", "gatewayctl explain pump-2")
        self._replug("pump-1", rate=FAST_BYTES_PER_S)
        self._replug("pump-2", rate=0)
        await record("retry", "gatewayctl retry pump-2")
        await self._gateway.until_state("pump-2", "offered")
        await record("retry", "gatewayctl approve pump-2")
        await self._gateway.until_state("pump-2", "succeeded")

    async def _go_on(self) -> None:
        command = "gatewayctl watch | tee watch.log"
        async with self._recorder.terminal(command) as terminal:
            await terminal.until(lambda: terminal.text.count("\n") == 3, "a line for each device")
            await self._recorder.type("resume", "gatewayctl resume pump-1")
            await terminal.until(lambda: "pump-1  succeeded" in terminal.text, "success")
            terminal.press_ctrl_c()
            await terminal.ended()
            self._recorder.keep("watch", command, terminal.text)
        await self._recorder.type("jobs", "gatewayctl jobs")
        await self._recorder.type("job", "gatewayctl job 1")

    async def _ask_why(self) -> None:
        genuine = self._pack(SMALL_IMAGE).read_bytes()
        message = encode_patch(3, PatchEncoding.VARINT) + genuine
        (self._folder / "root" / "pump-4.3.3.message").write_bytes(message)
        (self._folder / "ota.key").write_bytes(STRANGERS_KEY.to_file())
        self._gateway.publish(self._pack(SMALL_IMAGE), "4.3.3")
        await self._gateway.until_state("pump-1", "refused")
        await self._recorder.type("explain-device", "gatewayctl explain pump-1")
        await self._recorder.type("explain-message", "gatewayctl explain /a/pump/u/4.3 pump-4.3.3.message")

    async def _update_by_hand(self) -> None:
        genuine = (self._folder / "root" / "pump-4.3.3.message").read_bytes()[1:]
        (self._folder / "root" / "tank-2.0.8.ota").write_bytes(genuine)
        self._plug("tank-1", **TANK)
        await self._gateway.until_state("tank-1", "idle")
        await self._recorder.type("push", "gatewayctl push tank-1 tank-2.0.8.ota --version 2.0.8")
        await self._gateway.until_state("tank-1", "succeeded")
        await self._recorder.type("push", "gatewayctl devices tank-1")

    async def _find_and_configure(self) -> None:
        self._plug("tank-2", **TANK)
        await self._gateway.until(self._devices["tank-2"].port.exists, "the port")
        ports = [f"--port /{BY_ID}/{PORTS[name]}" for name in ("tank-2", "pump-1")]
        lines = ["gatewayctl scan uart --reset --config /etc/gatewayd/config.yaml", *ports]
        await self._recorder.type("scan", " \\\n    ".join(lines))
        self._configure(CONFIGURATION + ANOTHER_DEVICE)
        await self._recorder.type("reload-mistake", "gatewayctl reload; echo $?")
        self._configure(CONFIGURATION + ANOTHER_DEVICE.replace("instal:", "install:"))
        await self._recorder.type("reload", "gatewayctl reload")
        await self._gateway.until_state("tank-2", "idle")

    async def _update_over_smp(self) -> None:
        """A Zephyr device; in its place the model of one."""
        record = self._recorder.type
        version = {"version": "1.2.3", "rate": SENSOR_BYTES_PER_S, "latency_ms": 5}
        self._devices["sensor-3"] = self._farm.device("sensor-3", "smp", **version)
        self._configure(CONFIGURATION + ANOTHER_DEVICE.replace("instal:", "install:") + A_SENSOR)
        await record("smp-check", "gatewayctl check-config /etc/gatewayd/config.yaml")
        await record("smp-check", "gatewayctl reload")
        await self._gateway.until_state("sensor-3", "idle")
        image = make_image(Recipe((1, 2, 4, 0), SMALL_IMAGE))
        (self._folder / "root" / "zephyr.signed.bin").write_bytes(image)
        command = "gatewayctl watch | grep --line-buffered sensor-3"
        async with self._recorder.terminal(command) as terminal:
            await terminal.until(lambda: terminal.text.count("\n") == 1, "a line for the device")
            words = "gatewayctl publish --config /etc/gatewayd/config.yaml --app sensor --version 1.2.4"
            await record("smp-publish", f"{words} \\\n    zephyr.signed.bin")
            await terminal.until(lambda: "sensor-3  succeeded" in terminal.text, "success")
            terminal.press_ctrl_c()
            await terminal.ended()
            self._recorder.keep("smp-watch", command, terminal.text)
        await record("smp-done", "gatewayctl devices sensor-3")

    # -- the stage

    def _furnish(self) -> None:
        """Make the folder look like a machine's root."""
        for folder in (BY_ID, "etc/gatewayd", "var/lib", "run/gatewayd", "root", "bin"):
            (self._folder / folder).mkdir(parents=True)
        for key in ("decrypt.key.bin", "verify.key.bin"):
            (self._folder / key).rename(self._folder / "etc/gatewayd" / key)
        for name, port in PORTS.items():
            (self._folder / BY_ID / port).symlink_to(self._folder / f"port-{name}")
        self._gateway.config_file = self._folder / "etc/gatewayd/config.yaml"
        self._configure(CONFIGURATION)
        program = self._folder / "bin" / "gatewayctl"
        words = shlex.join([sys.executable, str(Path(__file__).with_name("ctl.py"))])
        program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def _configure(self, template: str) -> None:
        ports = {name.replace("-", "_"): port for name, port in PORTS.items()}
        text = template.format(root=self._folder, port=self._gateway.broker.port, by_id=BY_ID, **ports)
        self._gateway.config_file.write_text(text)

    def _plug(self, name: str, **flags: Any) -> None:
        # A restart that takes a moment, so that it can be seen in `watch`.
        self._devices[name] = self._farm.device(name, **{"slot_address": 0x2000, "boot_ms": 1000} | flags)

    def _replug(self, name: str, **flags: Any) -> None:
        self._devices[name].stop()
        self._plug(name, version="4.3.1", **flags)

    def _pack(self, image: bytes) -> Path:
        return self._gateway.pack(image)

    async def _until_percent(self, name: str, percent: int) -> None:
        def reached() -> object:
            status = self._gateway.status.get(name, {})
            return status.get("bytes_per_s") and status["progress"] >= percent

        await self._gateway.until(reached, f"{name} at {percent} %")


@asynccontextmanager
async def story() -> AsyncIterator[Story]:
    """A story in a folder with a short name: the path of a socket in it has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="barn-") as folder:
        async with farm(Path(folder), GATEWAY) as whole:
            yield Story(whole)


async def _record() -> None:
    async with story() as played:
        recordings = await played.play()
    record_pages(recordings)


if __name__ == "__main__":
    asyncio.run(_record())
