"""`make test-smp`: from an MQTT message through mosquitto and the daemon to Zephyr and MCUboot in QEMU."""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest
from lab.farm import Farm
from lab.fixtures import farm_in_a_folder
from lab.smp.images import application, hanging, microbit_flash, shipped
from lab.smp.qemu import MICROBIT, Board
from lab.smp.script import conversation, plain, play, read_recording

from suites.smp.players import RealServer
from suites.smp.scene import LIMIT_S, board_at, flash_runs, publish, succeeded

__all__ = ["farm_in_a_folder"]

KILLS = int(os.environ.get("GATEWAYD_KILLS", "5"))
UPLOADED = 0x22400  # the second slot, and the sector that this kind of swap leaves free


async def test_an_update_from_message_to_confirmed_version(farm: Farm, tmp_path: Path) -> None:
    async with board_at(farm) as port:
        farm.gateway.start()
        await farm.gateway.until_state("sensor-1", "idle", installed_version="1.0.0")
        new = application("1.0.1")
        publish(farm, tmp_path, new, "1.0.1")
        await succeeded(farm, "1.0.1")
        await flash_runs(port, new)


async def test_a_cut_line_repeats_nothing(farm: Farm, tmp_path: Path) -> None:
    async with board_at(farm) as port:
        farm.gateway.start()
        await farm.gateway.until_state("sensor-1", "idle")
        publish(farm, tmp_path, application("1.0.1"), "1.0.1")
        await port.until_sent(20_000)
        await port.cut_line(4.0)
        await succeeded(farm, "1.0.1")
        (staged,) = farm.gateway.log_events("staged")
        assert staged["repeated"] == 0


async def test_kills_at_random_moments(farm: Farm, tmp_path: Path) -> None:
    chance = random.Random(15)
    async with board_at(farm) as port:
        farm.gateway.start()
        await farm.gateway.until_state("sensor-1", "idle")
        for number in range(1, KILLS + 1):
            new, version = application(f"1.0.{number}"), f"1.0.{number}"
            publish(farm, tmp_path, new, version)
            await asyncio.sleep(chance.uniform(0.5, 14.0))
            farm.gateway.stop(signal.SIGKILL)
            port.after_kill()
            farm.gateway.run()
            await succeeded(farm, version)
        await flash_runs(port, new)


@pytest.mark.parametrize("when", ["upload", "swap", "trial"])
async def test_a_power_cut(farm: Farm, tmp_path: Path, when: str) -> None:
    async with board_at(farm) as port:
        farm.gateway.start()
        await farm.gateway.until_state("sensor-1", "idle")
        new = application("1.0.1")
        publish(farm, tmp_path, new, "1.0.1")
        if when == "upload":
            await port.until_sent(20_000)
        else:
            text = b"Starting swap using offset" if when == "swap" else b"<inf> smp_sample: build time"
            port.forget_said()
            async with asyncio.timeout(LIMIT_S):
                await port.until_said(text)
        await port.cut_power()
        if when == "trial":  # it went back, as it does without a confirmation
            await farm.gateway.until_state("sensor-1", "failed", code="reverted")
        else:
            await succeeded(farm, "1.0.1")
            await flash_runs(port, new)


async def test_an_image_that_hangs_is_tried_once(farm: Farm, tmp_path: Path) -> None:
    async with board_at(farm) as port:
        farm.gateway.start()
        await farm.gateway.until_state("sensor-1", "idle")
        publish(farm, tmp_path, hanging("1.0.1"), "1.0.1")
        await farm.gateway.until(lambda: farm.gateway.log_events("activated"), "activated", LIMIT_S)
        farm.gateway.stop(signal.SIGKILL)  # the daemon dies while the device hangs
        await asyncio.sleep(1.0)
        await port.cut_power()
        await asyncio.sleep(1.0)
        port.after_kill()
        farm.gateway.run()
        await farm.gateway.until_state("sensor-1", "failed", code="reverted")
        sent = port.total_sent
        await asyncio.sleep(2.0)
        assert port.total_sent - sent < 1000
        new = application("1.0.2")
        publish(farm, tmp_path, new, "1.0.2")
        await succeeded(farm, "1.0.2")
        await flash_runs(port, new)


async def test_an_image_that_lies_there_damaged_is_uploaded_again(farm: Farm, tmp_path: Path) -> None:
    """The server lists it whole, since the hash is read; this one takes nothing from before its last boot."""
    flash, damaged = bytearray(microbit_flash("1.0.0")), bytearray(application("1.0.1"))
    damaged[20_000] ^= 0xFF
    flash[UPLOADED : UPLOADED + len(damaged)] = damaged
    async with board_at(farm, flash=bytes(flash)) as port:
        farm.gateway.start()
        await farm.gateway.until_state("sensor-1", "idle")
        publish(farm, tmp_path, application("1.0.1"), "1.0.1")
        await succeeded(farm, "1.0.1")
        await flash_runs(port, application("1.0.1"))


async def test_another_version_than_the_header_says_is_refused(farm: Farm) -> None:
    async with board_at(farm) as port:
        farm.gateway.start()
        await farm.gateway.until_state("sensor-1", "idle")
        sent = port.total_sent
        await farm.gateway.send("/a/sensor/u/1.0", b"\x07" + application("1.0.1"))
        await farm.gateway.until(
            lambda: farm.gateway.status["sensor-1"].get("code") == "image_version_differs", "a refusal"
        )
        assert port.total_sent - sent < 1000


async def test_the_server_answers_as_it_was_recorded() -> None:
    applications = {"old": application("1.0.0"), "new": application("1.0.1")}
    expected = read_recording().answers
    server = RealServer(Board(MICROBIT, shipped(), microbit_flash("1.0.0")))
    try:
        await server.start()
        steps = [pair async for pair in play(conversation(applications), server)]
    finally:
        await server.close()
    for (step, answers), recorded in zip(steps, expected, strict=True):
        assert plain(answers) == plain(recorded), step.name
