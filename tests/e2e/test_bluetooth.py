"""Updates over Bluetooth, from the MQTT message on: the daemon in this process, on a virtual radio."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from bleak.exc import BleakError
from lab.farm import VirtualDevice
from lab.radio_gateway import LIMIT_S, PROFILE, Gateway, gateway_on_a_radio

from gatewayd.delivery import retry
from gatewayd.link import radio
from gatewayd.link.ble import BleLink
from gatewayd.link.radio import Radio
from gatewayd.link.radios import only
from gatewayd.link.target import Target
from gatewayd.protocol.rcp.kind import GATT

attack = pytest.mark.attack
IMAGE = random.Random(5).randbytes(20_000)


__all__ = ["gateway_on_a_radio"]


@pytest.mark.parametrize(
    ("mtu", "receiver"),
    [
        *((mtu, "python") for mtu in (23, 185, 247, 517)),
        *((mtu, "in_c") for mtu in (23, 247)),
    ],
)
async def test_an_update_by_radio(gateway: Gateway, mtu: int, receiver: str) -> None:
    tag = await gateway.tag("tag-7", "C0:FF:EE:00:00:01", mtu=mtu, receiver=receiver)
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        status = await gateway.until("tag-7", "succeeded")
    assert (status["installed_version"], tag.running_image) == ("1.0.1", IMAGE)


@pytest.mark.parametrize("receiver", ["python", "in_c"])
async def test_a_connection_that_breaks_is_made_again_and_goes_on_where_it_was(
    gateway: Gateway, receiver: str
) -> None:
    """At every tenth of the way, each with a device of its own."""
    tags = [await gateway.tag(f"tag-{n}", f"C0:FF:EE:00:00:{n:02X}", receiver=receiver) for n in range(1, 10)]
    for tenth, tag in enumerate(tags, 1):
        tag.cut_after = len(IMAGE) * tenth // 10
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        for n in range(1, 10):
            await gateway.until(f"tag-{n}", "succeeded")
    for tag in tags:
        assert (tag.running_image, tag.cut_after) == (IMAGE, None)
        assert 0 <= tag.data_bytes - len(IMAGE) <= tag.profile.window


async def test_a_bonded_device_is_paired_with_and_updated(gateway: Gateway) -> None:
    tag = await gateway.tag("tag-7", "C0:FF:EE:00:00:01", pair=True)
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        await gateway.until("tag-7", "succeeded")
    assert tag.running_image == IMAGE


async def test_how_long_an_erase_may_take_is_a_limit_of_the_link(gateway: Gateway) -> None:
    slow = replace(PROFILE, erase_s=0.4)  # five blocks: two seconds
    await gateway.tag("hasty", "C0:FF:EE:00:00:01", profile=slow, limits={"erase_s": 1})
    await gateway.tag("usual", "C0:FF:EE:00:00:02", profile=slow)
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        await gateway.until("hasty", "queued", "stalled")
        await gateway.until("usual", "succeeded")


@attack("another device under the name of ours", "wrong_app")
async def test_a_stranger_under_its_name_is_told_apart(gateway: Gateway) -> None:
    stranger = replace(PROFILE, app_id="lamp")
    tag = await gateway.tag("tag-7", "C0:FF:EE:00:00:01", profile=stranger, ble={"name": "tag-7"})
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        await gateway.until("tag-7", "failed", "wrong_app")
    assert tag.data_bytes == 0


OURS, NEIGHBOUR = "C0:FF:EE:00:00:01", "C0:FF:EE:00:00:02"
# Long enough for the neighbour to be heard meanwhile.
SLOW_BOOT = replace(PROFILE, boot_s=4.0)


@attack("a neighbour that is not listed, of our device's name and application")
@pytest.mark.parametrize(("ours", "neighbours"), [(None, None), ("board-1", "board-2"), ("board-1", None)])
async def test_a_namesake_gets_nothing_while_ours_restarts(
    gateway: Gateway, ours: str | None, neighbours: str | None
) -> None:
    profile = replace(SLOW_BOOT, device_id=ours)
    tag = await gateway.tag("tag", OURS, profile=profile, ble={"name": "tag"})
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        await gateway.until("tag", "activating")
        namesake = await gateway.unlisted(NEIGHBOUR, neighbours)
        await gateway.until("tag", "succeeded")
    assert (tag.running_image, namesake.running_image) == (IMAGE, None)
    assert namesake.data_bytes == 0


@attack("a neighbour that is not listed, of our device's name and application, in mid-transfer")
async def test_a_namesake_gets_nothing_after_a_lost_connection(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "LINE_WAIT_S", 0.5)
    tag = await gateway.tag("tag", OURS, ble={"name": "tag"}, limits={"scan_s": 1})
    gateway.devices[0]["probe"] = "job"
    tag.cut_after = len(IMAGE) // 2
    monkeypatch.setattr(tag.peripheral, "advertise", asyncio.Event().wait)  # once cut off it is away
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        await gateway.until("tag", "queued", "not_heard")
        namesake = await gateway.unlisted(NEIGHBOUR)
        scans = gateway.adapter.scans + 2
        async with asyncio.timeout(LIMIT_S):
            while gateway.adapter.scans < scans:  # noqa: ASYNC110 - a count of the virtual adapter
                await asyncio.sleep(0.05)
        monkeypatch.undo()
        await tag.peripheral.advertise()
        await gateway.until("tag", "succeeded")
    assert (tag.running_image, namesake.data_bytes) == (IMAGE, 0)


async def test_a_device_is_told_from_its_namesake_by_its_id(gateway: Gateway) -> None:
    """Though the namesake is heard first."""
    namesake = await gateway.unlisted(NEIGHBOUR, "board-2")
    link = {"ble": {"name": "tag"}, "pair": False}
    gateway.devices.append(
        {"name": "tag", "app_id": "tag", "version": "1.0.0", "device_id": "board-1", "link": link}
    )
    met = asyncio.Event()
    namesake.peripheral.on_connected = _then(namesake.peripheral.on_connected, met)
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        async with asyncio.timeout(LIMIT_S):
            await met.wait()
        tag = await gateway.unlisted(OURS, "board-1")
        await gateway.until("tag", "succeeded")
    assert (tag.running_image, namesake.data_bytes) == (IMAGE, 0)


def _then(callback: Callable[[int], None], called: asyncio.Event) -> Callable[[int], None]:
    def both(size: int) -> None:
        callback(size)
        called.set()

    return both


async def test_a_device_is_away_in_its_bootloader_and_comes_back(gateway: Gateway) -> None:
    """The bootloader advertises, and takes a connection, without offering RCP."""
    tag = await gateway.tag("tag-7", "C0:FF:EE:00:00:01")
    tag.in_bootloader = 2
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        await gateway.until("tag-7", "succeeded")
    assert (tag.running_image, tag.in_bootloader) == (IMAGE, 0)


async def test_an_adapter_that_is_blocked_keeps_nobody_else_waiting_and_heals(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "LINE_WAIT_S", 1.0)
    tag = await gateway.tag("tag-7", "C0:FF:EE:00:00:01")
    wired = VirtualDevice(gateway.folder, "pump-1", slot_address=0x2000).start()
    gateway.devices.append({**wired.config(payload="standard"), "keys": None})
    gateway.adapter.fault = BleakError("No powered Bluetooth adapters found.")
    try:
        async with gateway.running():
            await gateway.publish("1.0.1", IMAGE)
            await gateway.publish("4.3.2", IMAGE[::-1], app="pump")
            await gateway.until("tag-7", "queued", "adapter_blocked")
            await gateway.until("pump-1", "succeeded")
            gateway.adapter.fault = None
            await gateway.until("tag-7", "succeeded")
    finally:
        wired.stop()
    assert (tag.running_image, wired.active) == (IMAGE, IMAGE[::-1])


async def test_what_a_former_life_left_connected_is_ended_at_start(gateway: Gateway) -> None:
    """Also when nobody is going to ask the device anything."""
    tag = await gateway.tag("tag-7", "C0:FF:EE:00:00:01")
    gateway.devices[0]["probe"] = "job"
    former = BleLink(only(Radio(backend=gateway.adapter.backend)), Target(name="tag-7"), GATT, pair=False)
    await former.open()
    assert tag.peripheral.connection is not None
    gone = asyncio.Event()
    tag.peripheral.connection.on("disconnection", lambda _: gone.set())
    async with gateway.running(), asyncio.timeout(LIMIT_S):
        await gone.wait()
        await gateway.until("tag-7", "unknown")


async def test_a_sleepy_device_gets_its_update_when_it_wakes(gateway: Gateway) -> None:
    tag = await gateway.tag("tag-7", "C0:FF:EE:00:00:01", wake="advertisement")
    await tag.peripheral.device.stop_advertising()
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        await gateway.until("tag-7", "queued")
        await tag.peripheral.advertise()
        await gateway.until("tag-7", "succeeded")
    assert tag.running_image == IMAGE


async def test_eight_devices_at_once_on_one_adapter(gateway: Gateway) -> None:
    tags = [await gateway.tag(f"tag-{n}", f"C0:FF:EE:00:00:{n:02X}") for n in range(8)]
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        for n in range(8):
            await gateway.until(f"tag-{n}", "succeeded")
    assert [tag.running_image for tag in tags] == [IMAGE] * 8


async def test_six_devices_on_one_slot_all_finish(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though BlueZ has forgotten those that waited for it."""
    monkeypatch.setattr(radio, "FRESH_S", 0.5)
    gateway.adapter.forgets_after_s = 1.0
    gateway.max_connections = 1
    slow = replace(PROFILE, erase_s=0.3)  # five blocks: longer than BlueZ remembers
    tags = [await gateway.tag(f"tag-{n}", f"C0:FF:EE:00:00:{n:02X}", profile=slow) for n in range(6)]
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        for n in range(6):
            assert (await gateway.until(f"tag-{n}", "succeeded"))["attempt"] == 1
    assert [tag.running_image for tag in tags] == [IMAGE] * 6
    assert gateway.adapter.most_connected == 1


async def test_a_mixed_fleet(gateway: Gateway) -> None:
    """Two devices by wire, two by radio, one release each."""
    tags = [await gateway.tag(f"tag-{n}", f"C0:FF:EE:00:00:{n:02X}") for n in range(2)]
    wired = [VirtualDevice(gateway.folder, f"pump-{n}", slot_address=0x2000).start() for n in range(2)]
    for device in wired:
        own = device.config(payload="standard")
        del own["keys"]
        gateway.devices.append(own)
    try:
        async with gateway.running():
            await gateway.publish("1.0.1", IMAGE)
            await gateway.publish("4.3.2", IMAGE[::-1], app="pump")
            for name in ("tag-0", "tag-1", "pump-0", "pump-1"):
                await gateway.until(name, "succeeded")
    finally:
        for device in wired:
            device.stop()
    assert [tag.running_image for tag in tags] == [IMAGE] * 2
    assert [device.active for device in wired] == [IMAGE[::-1]] * 2


@attack("takes all that is written, and answers nothing")
async def test_a_radio_that_dies_without_a_word_is_noticed(gateway: Gateway) -> None:
    """Writes succeed into nowhere, the connection looks alive: only the ACKs are missing."""
    tag = await gateway.tag("tag-7", "C0:FF:EE:00:00:01")
    tag.dies_after = len(IMAGE) // 2
    async with gateway.running():
        await gateway.publish("1.0.1", IMAGE)
        await gateway.until("tag-7", "succeeded")
    assert tag.running_image == IMAGE
