"""Commands to install by MQTT: which are carried out, which are ignored, and what the log says."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gatewayd.errors import RequestError
from gatewayd.mqtt.connection import IncomingMessage
from gatewayd.mqtt.install_commands import LINES_AT_ONCE, MOST_WAITING, InstallCommands

DEVICES = {"pump-1", *(f"tag-{number}" for number in range(100))}


def command(payload: bytes = b"4.3.2", *, retain: bool = False) -> IncomingMessage:
    return IncomingMessage("gatewayd/barn/devices/pump-1/install", payload, 0, retain)


class Lab:
    def __init__(self) -> None:
        self.installed: list[tuple[str, str]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.refusal = ""
        self.commands = InstallCommands(self._install, lambda: DEVICES, clock=lambda: 0.0)

    async def _install(self, name: str, version: str) -> None:
        await self.go_on.wait()
        self.installed.append((name, version))
        if self.refusal:
            raise RequestError("no", code=self.refusal)

    async def carry_out(self) -> None:
        task = asyncio.create_task(self.commands.run())
        for _ in range(200):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_a_command_is_carried_out_with_the_version_that_it_names() -> None:
    lab = Lab()
    lab.commands.take("pump-1", command())
    await lab.carry_out()
    assert lab.installed == [("pump-1", "4.3.2")]


async def test_what_cannot_be_meant_is_ignored_with_a_code_in_the_log() -> None:
    lab = Lab()
    for name, message, code in (
        ("pump-1", command(retain=True), "retained_command"),
        ("pump-1", command(b""), "bad_command"),
        ("pump-1", command(b"4" * 65), "bad_command"),
        ("pump-1", command(b"\xff\xfe"), "bad_command"),
        ("pump-2", command(), "no_such_device"),
    ):
        with capture_logs() as log:
            lab.commands.take(name, message)
            await lab.carry_out()
        assert [(line["log_level"], line["code"], line["by"]) for line in log] == [("warning", code, "mqtt")]
    lab.commands.take("pump-1", command(b"4" * 64))
    await lab.carry_out()
    assert lab.installed == [("pump-1", "4" * 64)]


async def test_one_that_is_refused_does_not_stop_the_next() -> None:
    lab = Lab()
    lab.refusal = "not_on_offer"
    with capture_logs() as log:
        for name in ("pump-1", "tag-1"):
            lab.commands.take(name, command())
        await lab.carry_out()
    assert [(line["device"], line["code"]) for line in log] == [
        ("pump-1", "not_on_offer"),
        ("tag-1", "not_on_offer"),
    ]


@pytest.mark.attack("a flood of commands to install", "bad_command", "busy")
async def test_a_flood_neither_piles_up_nor_floods_the_log() -> None:
    lab = Lab()
    with capture_logs() as log:
        for number in range(100):
            lab.commands.take(f"tag-{number}", command())
            lab.commands.take("pump-1", command(b""))
        await lab.carry_out()
    assert len(lab.installed) == MOST_WAITING
    assert len(log) == LINES_AT_ONCE
    assert {line["code"] for line in log} == {"bad_command", "busy"}


async def test_a_button_pressed_twice_installs_once() -> None:
    lab = Lab()
    for _ in range(2):
        lab.commands.take("pump-1", command())
    await lab.carry_out()
    assert len(lab.installed) == 1
