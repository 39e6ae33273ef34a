"""What may happen to a gateway and a line in mid-update, and must not be noticed in the end."""

import asyncio
import os
import random
import signal

import pytest
from lab.farm import RECEIVERS, Farm, Gateway, VirtualDevice, image_of

# `make kills` asks for 50; each takes about four seconds.
KILLS = int(os.environ.get("GATEWAYD_KILLS", "4"))
WINDOW, ERASE_BLOCK = 4096, 4096


async def begun(farm: Farm, receiver: str, size: int, **flags: object) -> VirtualDevice:
    """Start an update and return when it is half-way."""
    device = farm.device("pump-1", receiver, slot_address=0x2000, rate=40_000, **flags)
    gateway = farm.gateway
    gateway.config["devices"] = [device.config(link={"baud": 115200})]
    gateway.start()
    gateway.publish(gateway.pack(image_of(1, size)), "4.3.2")
    await gateway.until(lambda: (gateway.status.get("pump-1", {}).get("progress") or 0) >= 40, "40 %")
    return device


def offsets(gateway: Gateway) -> list[int]:
    return [entry["offset"] for entry in gateway.log_events("transfer")]


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_sigterm_in_mid_transfer_returns_at_once_and_the_next_start_resumes(
    farm: Farm, receiver: str
) -> None:
    device = await begun(farm, receiver, 100_000)
    gateway = farm.gateway
    assert gateway.stop() == 0
    assert not gateway.log_events("staged"), "it did not wait for the transfer"
    gateway.start()
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert device.active == image_of(1, 100_000)
    assert offsets(gateway)[-1] >= 40_000 - WINDOW - ERASE_BLOCK
    assert gateway.jobs() == [("pump-1", "4.3.2", "succeeded")]


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_a_device_that_loses_power_resumes_where_it_was(farm: Farm, receiver: str) -> None:
    device = await begun(farm, receiver, 100_000)
    gateway = farm.gateway
    device.stop(signal.SIGKILL)
    await gateway.until(
        lambda: gateway.status["pump-1"].get("code") in ("link_lost", "link_missing"), "line lost"
    )
    device.start()
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert device.active == image_of(1, 100_000)
    assert offsets(gateway)[-1] >= 40_000 - WINDOW - ERASE_BLOCK


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_a_power_cut_in_mid_frame_is_bridged_without_a_new_attempt(farm: Farm, receiver: str) -> None:
    device = farm.device("pump-1", receiver, slot_address=0x2000, rate=40_000, power_cut_after=50_000)
    gateway = farm.gateway
    gateway.config["devices"] = [device.config()]
    gateway.start()
    gateway.publish(gateway.pack(image_of(2, 80_000)), "4.3.2")
    status = await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert device.active == image_of(2, 80_000)
    assert status["attempt"] == 1
    first, *later = offsets(gateway)
    assert first == 0
    assert later[0] >= 50_000 * 1024 // 1041 - 2 * WINDOW - ERASE_BLOCK


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_sigkill_at_random_moments_loses_and_doubles_nothing(farm: Farm, receiver: str) -> None:
    chance = random.Random(f"kills {receiver}")
    gateway = farm.gateway
    device = farm.device("pump-1", receiver, slot_address=0x2000, rate=92_160)
    gateway.config["devices"] = [device.config(link={"baud": 921600}) | {"version": "4.3.1"}]
    gateway.config["devices"][0]["link"]["baud"] = 115200
    gateway.start()
    for kill in range(KILLS):
        version = f"4.3.{kill + 2}"
        image = image_of(kill, chance.randrange(20_000, 90_000))
        gateway.publish(gateway.pack(image), version)
        # From before the message is stored to after the device has restarted.
        await asyncio.sleep(chance.uniform(0.0, len(image) / 92_160 + 1.0))
        gateway.stop(signal.SIGKILL)
        gateway.start()
        await gateway.until_state("pump-1", "succeeded", installed_version=version)
        assert device.active == image
    assert gateway.jobs() == [("pump-1", f"4.3.{kill + 2}", "succeeded") for kill in range(KILLS)]
    assert device.log.read_text().lower().count("confirmed") >= KILLS


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_killed_after_activate_and_dead_past_the_trial_the_device_reverts_and_we_find_out(
    farm: Farm, receiver: str
) -> None:
    gateway = farm.gateway
    device = farm.device("pump-1", receiver, slot_address=0x2000, boot_ms=5000)
    old = image_of(7, 10_000)
    gateway.config["devices"] = [device.config(trial_s=2)]
    gateway.start()
    gateway.publish(gateway.pack(old), "4.3.2")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    gateway.publish(gateway.pack(image_of(8, 20_000)), "4.3.3")
    await gateway.until(lambda: gateway.status["pump-1"]["state"] == "activating", "activating")
    gateway.stop(signal.SIGKILL)
    await gateway.until(lambda: "not confirmed in time" in device.log.read_text(), "the device reverts")
    gateway.start()
    status = await gateway.until_state("pump-1", "failed", code="reverted")
    assert status["installed_version"] == "4.3.2"
    assert device.active == old
    assert gateway.jobs() == [("pump-1", "4.3.2", "succeeded"), ("pump-1", "4.3.3", "failed")]
