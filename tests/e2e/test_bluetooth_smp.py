"""Updates of devices that speak SMP over Bluetooth, from the MQTT message to the confirmed version.

The devices are the model of Zephyr's server on a virtual radio; `make test-smp` has the server itself.
"""

import asyncio
from dataclasses import replace

import pytest
from lab.radio_gateway import LIMIT_S, Gateway, gateway_on_a_radio
from lab.smp.memory import firmware
from lab.smp.tag import ORDINARY, SmpTag

from gatewayd.delivery import retry

__all__ = ["gateway_on_a_radio"]

attack = pytest.mark.attack
NEW = firmware(1)
OURS, NEIGHBOUR = "C0:FF:EE:00:00:01", "C0:FF:EE:00:00:02"
SMP = {"boot_s": 1}
HEADER = 32  # bytes of an image that accompany the question where an upload goes on


@pytest.mark.parametrize(
    ("mtu", "buffer_size", "joins_packets"), [(23, 384, True), (247, 2475, True), (247, 384, False)]
)
async def test_an_update_by_radio(
    gateway: Gateway, mtu: int, buffer_size: int, *, joins_packets: bool
) -> None:
    """Also of a device that was built without putting packets together."""
    profile = replace(ORDINARY, buffer_size=buffer_size, joins_packets=joins_packets)
    tag = await gateway.sensor("sensor", OURS, smp=SMP, profile=profile, mtu=mtu)
    async with gateway.running():
        await gateway.publish("1.0.1", NEW)
        status = await gateway.until("sensor", "succeeded")
    assert (status["installed_version"], tag.runs) == ("1.0.1", (NEW, True))
    assert tag.server.image_bytes == len(NEW)


async def test_a_connection_that_breaks_is_made_again_and_goes_on_where_it_was(gateway: Gateway) -> None:
    """At each third of the way, each with a device of its own; what had arrived is not sent again."""
    tags = [await gateway.sensor(f"sensor-{n}", f"C0:FF:EE:00:00:{n:02X}", smp=SMP) for n in range(1, 3)]
    for third, tag in enumerate(tags, 1):
        tag.cut_after = len(NEW) * third // 3
    async with gateway.running():
        await gateway.publish("1.0.1", NEW)
        for n in range(1, 3):
            await gateway.until(f"sensor-{n}", "succeeded")
    for tag in tags:
        assert (tag.runs, tag.cut_after) == ((NEW, True), None)
        assert tag.server.image_bytes - len(NEW) == HEADER


async def test_another_life_of_the_daemon_goes_on_where_the_first_one_ended(gateway: Gateway) -> None:
    slow = replace(ORDINARY, write_s=0.02)  # so that it is not done before the first one ends
    tag = await gateway.sensor("sensor", OURS, smp=SMP, profile=slow)
    async with gateway.running():
        await gateway.publish("1.0.1", NEW)
        async with asyncio.timeout(LIMIT_S):
            while tag.server.image_bytes < len(NEW) // 2:  # noqa: ASYNC110 - a count of the model
                await asyncio.sleep(0.01)
    assert tag.server.slots.trials == 0
    async with gateway.running():
        await gateway.until("sensor", "succeeded")
    assert tag.runs == (NEW, True)
    assert tag.server.image_bytes - len(NEW) == HEADER


async def test_a_power_cut_on_trial_brings_the_old_image_back(gateway: Gateway) -> None:
    tag = await gateway.sensor("sensor", OURS, smp=SMP)
    before = tag.runs
    async with gateway.running():
        await gateway.publish("1.0.1", NEW)
        await tag.until_on_trial()
        tag.cut_power()
        await gateway.until("sensor", "failed", "reverted")
    assert (tag.runs, tag.server.slots.trials) == (before, 1)


@attack("a neighbour that is not listed, of our device's name, that speaks SMP")
async def test_a_namesake_gets_nothing_while_ours_restarts(gateway: Gateway) -> None:
    """Neither tells a serial number; ours boots for so long that the neighbour alone is heard."""
    profile = replace(ORDINARY, boot_s=4.0)
    link = {"ble": {"name": "sensor"}, "pair": False, "limits": {"scan_s": 1}}
    ours = await gateway.sensor("sensor", OURS, smp=SMP, profile=profile, link=link)
    async with gateway.running():
        await gateway.publish("1.0.1", NEW)
        await gateway.until("sensor", "activating")
        namesake = await SmpTag.at(gateway.air, "sensor", NEIGHBOUR)
        gateway.tags.append(namesake)
        before = namesake.runs
        await gateway.until("sensor", "succeeded")
    assert ours.runs == (NEW, True)
    assert (namesake.runs, namesake.server.image_bytes, namesake.server.boots) == (before, 0, 1)


@attack("a neighbour that is not listed, of our device's name, that speaks SMP, in mid-upload")
async def test_a_namesake_gets_nothing_after_a_lost_connection(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "LINE_WAIT_S", 0.5)
    link = {"ble": {"name": "sensor"}, "pair": False, "limits": {"scan_s": 1}}
    ours = await gateway.sensor("sensor", OURS, smp=SMP, link=link)
    gateway.devices[0]["probe"] = "job"
    ours.cut_after = len(NEW) // 2
    monkeypatch.setattr(ours.peripheral, "advertise", asyncio.Event().wait)  # once cut off it is away
    async with gateway.running():
        await gateway.publish("1.0.1", NEW)
        await gateway.until("sensor", "queued", "not_heard")
        namesake = await SmpTag.at(gateway.air, "sensor", NEIGHBOUR)
        gateway.tags.append(namesake)
        scans = gateway.adapter.scans + 1
        async with asyncio.timeout(LIMIT_S):
            while gateway.adapter.scans < scans:  # noqa: ASYNC110 - a count of the virtual adapter
                await asyncio.sleep(0.05)
        monkeypatch.undo()
        await ours.peripheral.advertise()
        await gateway.until("sensor", "succeeded")
    assert (ours.runs, namesake.server.image_bytes, namesake.server.boots) == ((NEW, True), 0, 1)
