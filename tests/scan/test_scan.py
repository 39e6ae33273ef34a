"""Scanning real ptys: who answers, who is left alone, and what can be pasted."""

import asyncio
import fcntl
import io
import json
import os
import pty
import re
import subprocess
import sys
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
import yaml
from lab.brokers import DEADLINE_S, until
from lab.configuration import Lab
from lab.farm import RECEIVERS, VirtualDevice

from gatewayd.cli import local_devices
from gatewayd.cli import scan as command
from gatewayd.cli.ctl import cli
from gatewayd.cli.scan_yaml import uart_to_yaml
from gatewayd.config import ConfigErrors, load
from gatewayd.link.ports import Port, named_port
from gatewayd.scan import uart
from gatewayd.scan.uart import FoundDevice, FoundPort, ScanReport, scan_uart
from gatewayd.store.lock import LockHolder


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uart, "PATIENCE_S", 0.3)
    monkeypatch.setattr(uart, "RESET_PATIENCE_S", 0.3)


@pytest_asyncio.fixture(name="device")
async def _device(tmp_path: Path) -> AsyncIterator[VirtualDevice]:
    device = VirtualDevice(tmp_path, "dev", hardware_id="rev-b").start()
    await until(device.port.exists)
    yield device
    device.stop()


@dataclass
class SilentPort:
    """A port nobody answers on; `heard` is what was written to it."""

    master: int
    slave: int
    port: Port

    def heard(self) -> bytes:
        try:
            return os.read(self.master, 4096)
        except BlockingIOError:
            return b""


@pytest.fixture
def silent() -> Iterator[SilentPort]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    yield SilentPort(master, slave, named_port(os.ttyname(slave)))
    os.close(master)
    os.close(slave)


async def look(*ports: Port, **settings: Any) -> list[FoundPort]:
    usual: dict[str, Any] = {
        "gateway_id": "barn",
        "bauds": [115200],
        "may_reset": False,
        "configured": {},
        "claimed": {},
    }
    return list((await scan_uart(ports, **(usual | settings))).ports)


async def look_until(
    reached: Callable[[FoundPort], object], *ports: Port, **settings: Any
) -> list[FoundPort]:
    """Look again: on a busy machine what is on the first port may need longer than a scan is patient."""
    async with asyncio.timeout(DEADLINE_S):
        while not reached((found := await look(*ports, **settings))[0]):
            pass
    return found


async def look_until_it_answers(port: Path, **settings: Any) -> FoundPort:
    (found,) = await look_until(lambda one: one.device, named_port(str(port)), **settings)
    return found


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_a_device_that_answers(tmp_path: Path, receiver: str) -> None:
    facts = {"app_id": "pump", "version": "4.3.1", "hardware_id": "rev-b", "device_id": "0815"}
    device = VirtualDevice(tmp_path, "dev", receiver, **facts).start()
    await until(device.port.exists)
    before = {path: path.read_bytes() for path in device.state.iterdir() if path.is_file()}
    found = await look_until_it_answers(device.port)
    device.stop()
    assert found.device == FoundDevice(**facts, baud=115200)
    assert (found.port, found.kind, found.code) == (str(device.port), "pty", None)
    after = {path: path.read_bytes() for path in device.state.iterdir() if path.is_file()}
    assert after == before, "HELLO changes nothing"


@pytest.mark.parametrize("framing", ["console", "raw"])
async def test_a_device_with_smp_is_pasted_with_its_framing(tmp_path: Path, framing: str) -> None:
    device = VirtualDevice(tmp_path, "dev", "smp", framing=framing, hardware_id="nrf52840dk").start()
    await until(device.port.exists)
    found = await look_until_it_answers(device.port)
    device.stop()
    (pasted,) = yaml.safe_load(uart_to_yaml(ScanReport(ports=(found,)), set()))["devices"]
    smp = {} if framing == "console" else {"smp": {"framing": "raw"}}
    link = {"uart": str(device.port), "baud": 115200}
    facts = {"hardware_id": "nrf52840dk", "version": "4.3.1", "protocol": "smp", "link": link}
    assert pasted == {"name": "device-1"} | facts | smp


async def test_speeds_are_tried_in_turn(tmp_path: Path) -> None:
    device = VirtualDevice(tmp_path, "slow", baud=9600).start()
    await until(device.port.exists)
    port = named_port(str(device.port))
    (at_one,) = await look(port)
    at_both = await look_until_it_answers(device.port, bauds=[115200, 9600])
    device.stop()
    assert at_one.code == "no_answer"
    assert at_both.device is not None
    assert at_both.device.baud == 9600


async def test_ports_are_asked_side_by_side(silent: SilentPort, device: VirtualDevice) -> None:
    missing = named_port(str(device.port.with_name("none")))
    found = await look_until(lambda one: one.device, named_port(str(device.port)), silent.port, missing)
    assert [one.code for one in found] == [None, "no_answer", "link_missing"]
    assert found[1].text
    assert re.fullmatch(
        r"no answer to SMP parameters within \S+ s at 115200 baud: not a byte came", found[1].text
    )
    assert silent.heard(), "it was asked"


async def test_what_talks_something_else_is_quoted(silent: SilentPort) -> None:
    async def talk() -> None:
        while True:
            await until(silent.heard)
            os.write(silent.master, b"\x1b[1mRT-Thread 4.1\r\nmsh >\r\n")

    talking = asyncio.create_task(talk())
    (found,) = await look_until(lambda one: one.code != "no_answer", silent.port)
    talking.cancel()
    assert found.code == "only_text"
    assert found.text
    assert found.text.endswith("it prints text and does not answer, 'RT-Thread 4.1' for instance")


async def test_a_port_that_may_reset_its_board_is_opened_only_when_allowed(silent: SilentPort) -> None:
    port = replace(silent.port, may_reset=True)
    (found,) = await look(port)
    assert (found.code, silent.heard()) == ("may_reset", b"")
    assert found.hint == "--reset opens it anyway"
    (found,) = await look(port, may_reset=True)
    assert found.code == "no_answer"
    assert silent.heard()


async def test_a_port_in_use_is_left_alone(silent: SilentPort) -> None:
    program = "import os, sys; os.open(sys.argv[1], os.O_RDWR); print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", program, silent.port.node]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:  # noqa: ASYNC220 - brief
        assert user.stdout is not None
        assert user.stdin is not None
        user.stdout.readline()
        (found,) = await look(silent.port, may_reset=True)
        user.stdin.close()
    assert found.code == "link_busy"
    assert found.text is not None
    assert found.text.endswith(f"(process {user.pid})")
    assert silent.heard() == b""


async def test_a_port_that_is_locked_is_left_alone(silent: SilentPort) -> None:
    fcntl.flock(silent.slave, fcntl.LOCK_EX)  # by this process, which the look into /proc leaves out
    (found,) = await look(silent.port)
    assert (found.code, silent.heard()) == ("link_busy", b"")


async def test_a_port_of_the_running_gateway_is_left_alone(silent: SilentPort) -> None:
    node = silent.port.node
    (found,) = await look(
        silent.port,
        configured={node: "pump-1"},
        claimed={node: "in use by the running gatewayd"},
        may_reset=True,
    )
    assert (found.code, found.configured_as, silent.heard()) == ("link_busy", "pump-1", b"")
    assert found.text == "in use by the running gatewayd"


async def test_the_kernels_console_is_left_alone(silent: SilentPort) -> None:
    (found,) = await look(replace(silent.port, is_console=True), may_reset=True)
    assert (found.code, silent.heard()) == ("link_busy", b"")


# -- the command


def run(*words: object) -> str:
    with redirect_stdout(io.StringIO()) as stdout:
        cli.main(["scan", "uart", *map(str, words)], standalone_mode=False)
    return stdout.getvalue()


async def ask(*words: object) -> str:
    return await asyncio.to_thread(run, *words)


async def ask_until(answer: str, *words: object) -> str:
    """Ask again: on a busy machine a device may need longer than a scan is patient."""
    async with asyncio.timeout(DEADLINE_S):
        while answer not in (printed := await ask(*words)):
            pass
    return printed


async def test_what_answers_can_be_pasted_and_the_rest_is_comment(
    device: VirtualDevice, silent: SilentPort, tmp_path: Path
) -> None:
    ports = ("--port", device.port, "--port", silent.port.node, "--port", "/dev/none")
    printed = await ask_until("app_id: pump", *ports)
    assert yaml.safe_load(printed) == {
        "devices": [
            {
                "name": "pump-1",
                "app_id": "pump",
                "hardware_id": "rev-b",
                "version": "4.3.1",
                "link": {"uart": str(device.port), "baud": 115200},
            }
        ]
    }
    assert re.search(
        f"\n# {silent.port.node}: no answer to SMP parameters .*: not a byte came \\(is it powered", printed
    )
    assert "\n# /dev/none: does not exist (" in printed
    config = tmp_path / "config.yaml"
    config.write_text("gateway: {id: barn}\nmqtt: {host: 127.0.0.1}\n" + printed)
    assert [one.name for one in load(config).devices] == ["pump-1"]


async def test_a_new_device_gets_a_name_that_is_free(device: VirtualDevice, tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.settings()
    printed = await ask_until("app_id: pump", "--config", lab.file, "--port", device.port)
    assert printed.startswith("devices:\n  - name: pump-2\n")
    # Beneath the devices that are there already.
    lab.file.write_text(lab.file.read_text() + printed.removeprefix("devices:\n").replace("\n  ", "\n"))
    lab.file.write_text(lab.file.read_text().replace("  - name: pump-2", "- name: pump-2"))
    assert [one.name for one in load(lab.file).devices] == ["pump-1", "pump-2"]


async def test_a_configured_device_is_asked_unless_gatewayd_runs(
    device: VirtualDevice, tmp_path: Path
) -> None:
    lab = Lab(tmp_path)
    lab.tree["gateway"]["state_dir"] = "state"
    lab.tree["devices"][0]["link"]["uart"] = str(device.port)
    lab.tree["keys"]["pump"]["decrypt_key_file"] = "gone"
    with pytest.raises(ConfigErrors):  # what concerns ports is readable all the same
        lab.settings()
    printed = await ask_until("answers at", "--config", lab.file, "--port", device.port)
    assert printed == (
        f"devices: []\n# {device.port}: is pump-1 in the configuration; pump 4.3.1 answers at 115200 baud\n"
    )
    (tmp_path / "state").mkdir()
    lock = os.open(tmp_path / "state" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    printed = await ask("--config", lab.file, "--port", device.port)
    os.close(lock)
    assert f"# {device.port}: is pump-1 in the configuration; in use by the running gatewayd" in printed


async def test_a_daemon_that_cannot_be_seen_is_taken_for_running(
    silent: SilentPort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_devices, "find_daemon", lambda _: LockHolder(runs=None))
    lab = Lab(tmp_path)
    lab.tree["devices"][0]["link"]["uart"] = silent.port.node
    lab.settings()
    printed = await ask("--config", lab.file, "--port", silent.port.node, "--reset")
    assert "left to gatewayd, which may be running" in printed
    assert silent.heard() == b""


async def test_json_is_what_its_schema_says(device: VirtualDevice, silent: SilentPort) -> None:
    ports = ("--port", device.port, "--port", silent.port.node, "--port", device.port)
    printed = await ask_until('"pump"', "--json", *ports)
    document = json.loads(printed)
    jsonschema.validate(document, ScanReport.model_json_schema())
    first, second = document["ports"]
    assert first["device"]["app_id"] == "pump"
    assert (second["device"], second["code"]) == (None, "no_answer")


def test_without_ports_it_looks_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "machine_ports", lambda: ())
    monkeypatch.setattr(local_devices, "DEFAULT_CONFIG", Path("/nonexistent"))
    printed = run()
    assert yaml.safe_load(printed) == {"devices": []}
    assert "No serial ports were found" in printed


def test_a_configuration_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors):
        run("--config", tmp_path / "none.yaml", "--port", "/dev/none")


# -- what to paste


def found(
    app_id: str = "pump", version: str | None = "1.2.3", port: str = "/dev/x", **facts: Any
) -> FoundPort:
    device = FoundDevice(app_id=app_id, version=version, hardware_id=None, device_id=None, baud=115200)
    return FoundPort(port=port, node=port, kind="usb", description="", device=device.model_copy(update=facts))


def paste(*ports: FoundPort, names: tuple[str, ...] = ()) -> str:
    return uart_to_yaml(ScanReport(ports=ports), names)


@pytest.mark.parametrize("text", ["yes", "4.10", "0x10", "C0:FF:EE:00:00:01", "a: b", 'q"\\', "pümp", "null"])
def test_whatever_a_device_calls_itself_is_text(text: str, tmp_path: Path) -> None:
    printed = paste(found(app_id=text, hardware_id=text, port=f"/dev/{text}, x"))
    config = tmp_path / "config.yaml"
    config.write_text("mqtt: {host: 127.0.0.1}\n" + printed)
    (device,) = load(config).devices
    assert (device.app_id, device.hardware_id, device.link.address) == (text, text, f"/dev/{text}, x")


def test_names_are_unique() -> None:
    printed = paste(found(), found(app_id="a b"), found(), found(app_id="p" * 64), names=("pump-1",))
    names = [one["name"] for one in yaml.safe_load(printed)["devices"]]
    assert names == ["pump-2", "a-b-1", "pump-3", "p" * 56 + "-1"]


@pytest.mark.parametrize("version", [None, "4.3", "v1\n"])
def test_a_version_that_is_not_said_is_left_to_the_person(version: str | None, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("mqtt: {host: 127.0.0.1}\n" + paste(found(version=version)))
    with pytest.raises(ConfigErrors) as refused:
        load(config)
    assert [mistake.key_path for mistake in refused.value.mistakes] == ["devices[0].version"]


def test_an_app_id_that_no_topic_can_hold_is_a_comment() -> None:
    printed = paste(found(app_id="a/#"))
    assert yaml.safe_load(printed) == {"devices": []}
    assert "cannot be configured" in printed


def test_nothing_breaks_out_of_a_comment() -> None:
    port = FoundPort(
        port="/dev/x",
        node="/dev/x",
        kind="usb",
        description="Evil\nname: x\x1b[2J",
        code="no_answer",
        text="-",
    )
    assert paste(port) == "devices: []\n# /dev/x (Evil?name: x?[2J): -\n"
