"""A whole gateway as a person at a shell has it: gatewayctl's commands, on a pipe or on a terminal."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from paho.mqtt import subscribe as paho_subscribe

from gatewayd.control.client import DaemonUnreachable, ask, subscribe
from gatewayd.control.messages import DevicesResult, DeviceView, JobsResult, JobView, WatchResult
from gatewayd.control.requests import Devices, Jobs, Watch
from lab.brokers import Mosquitto
from lab.containers import Ran, gatewayctl
from lab.control_schema import check_printed
from lab.farm import Gateway, VirtualDevice

# Far beyond what anything here takes on a busy machine; what runs into it is broken.
DEADLINE_S = 120.0


class Desk:
    """A broker, a daemon, its devices, and gatewayctl for them."""

    def __init__(self, folder: Path, broker: Mosquitto | None = None) -> None:
        self.folder = folder
        self.broker = broker or Mosquitto(folder / "mosquitto").start()
        self.gateway = Gateway(folder, self.broker)
        self.gateway.config["keys"]["k"]["allow_shared_key"] = True
        self.socket = folder / "control.sock"
        self.devices: dict[str, VirtualDevice] = {}

    # -- what is there

    def device(self, name: str, receiver: str = "c", **flags: object) -> VirtualDevice:
        """Start a virtual device; it takes what is published for the application of its name."""
        flags = {"app_id": name.rpartition("-")[0], "slot_address": 0x2000} | flags
        self.devices[name] = VirtualDevice(self.folder, name, receiver, **flags).start()
        return self.devices[name]

    def configure(self, *devices: dict[str, Any]) -> None:
        """Write the configuration with these devices."""
        self.gateway.config["devices"] = list(devices)
        self.write()

    def write(self) -> None:
        """Write the configuration as it is held."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.gateway.config, sort_keys=False))

    def start(self) -> None:
        self.gateway.start()
        self.until(self.answers, "the daemon answers")

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.gateway.stop(number)

    def end(self) -> None:
        self.leave()
        self.broker.stop()

    def leave(self) -> None:
        """End everything but the broker."""
        if self.gateway.process is not None and self.gateway.process.poll() is None:
            self.stop(signal.SIGKILL)
        for device in self.devices.values():
            device.stop()

    # -- what is published

    def container(self, image: bytes, *options: str) -> Path:
        """Pack an image for the address that all devices report."""
        (self.folder / "rom.bin").write_bytes(image)
        out = self.folder / "firmware.ota"
        self.good(
            "pack", "--key", self.folder / "ota.key", *options, "-o", out, f"0x2000={self.folder / 'rom.bin'}"
        )
        return out

    def publish(self, app: str, version: str, image: bytes) -> None:
        words = ("--config", self.folder / "config.yaml", "--app", app, "--version", version)
        self.good("publish", *words, self.container(image))

    # -- what is said

    def run(self, *words: object) -> Ran:
        """Run gatewayctl in this process, on a pipe."""
        return gatewayctl("--socket", self.socket, *map(str, words))

    def good(self, *words: object) -> str:
        ran = self.run(*words)
        assert ran.exit_code == 0, ran
        assert ran.err == "", ran
        return ran.out

    def json(self, command: str, *words: object) -> dict[str, Any]:
        """Run it with --json; what it prints is as the schema has it."""
        (line,) = self.good(*words, "--json").splitlines()
        return check_printed(command, line)

    def refused(self, command: str, *words: object, exit_code: int = 1) -> dict[str, str]:
        """Run it twice; return the error that --json prints, the same as is told a person."""
        ran, told = self.run(*words, "--json"), self.run(*words)
        assert (ran.exit_code, ran.err) == (exit_code, ""), ran
        assert (told.exit_code, told.out) == (exit_code, ""), told
        error: dict[str, str] = check_printed(command, ran.out)["error"]
        text = f"{error['message']} ({error['hint']})" if error["hint"] else error["message"]
        assert told.err.replace("gatewayctl: ", "") == "".join(map("{}\n".format, text.splitlines()))
        assert "Traceback" not in told.err
        return error

    # -- what is so

    def answers(self) -> bool:
        try:
            self.views()
        except DaemonUnreachable:
            return False
        return True

    def views(self) -> dict[str, DeviceView]:
        return {device.name: device for device in ask(self.socket, Devices(), DevicesResult).devices}

    def jobs(self, device: str) -> list[JobView]:
        """Return its jobs, newest first."""
        return list(ask(self.socket, Jobs(device=device), JobsResult).jobs)

    def until(self, reached: Callable[[], object], what: str = "") -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            assert self.gateway.process is None or self.gateway.process.poll() in (None, 0), self.log()
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what or reached}\n{self.log()[-3000:]}")
            time.sleep(0.02)

    def until_state(self, name: str, state: str, **more: object) -> DeviceView:
        """Wait as `watch` does, so that no state is too short."""
        with _alarm(f"{name} {state} {more}"):
            for news in subscribe(self.socket, Watch(), WatchResult):
                for view in news.devices:
                    wanted = {"name": name, "state": state, **more}
                    if all(getattr(view, key) == value for key, value in wanted.items()):
                        return view
        raise AssertionError("the daemon ended")

    def published_of_gateway(self) -> dict[str, Any]:
        """Return what the broker keeps on the gateway's topic."""
        message = paho_subscribe.simple("gatewayd/barn/gateway", hostname="127.0.0.1", port=self.broker.port)  # type: ignore[no-untyped-call]  # paho has not written its types down
        found: dict[str, Any] = json.loads(message.payload)
        return found

    def log(self) -> str:
        return (self.folder / "gatewayd.log").read_text()


@contextmanager
def _alarm(what: str) -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"waited in vain for {what}")

    before = signal.signal(signal.SIGUSR2, late)
    timer = threading.Timer(DEADLINE_S, os.kill, (os.getpid(), signal.SIGUSR2))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR2, before)


@contextmanager
def desk(folder: Path, broker: Mosquitto | None = None) -> Iterator[Desk]:
    whole = Desk(folder, broker)
    try:
        yield whole
    finally:
        whole.end()
