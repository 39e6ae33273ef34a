"""The Bluetooth link against a peripheral on a virtual radio."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from bleak.exc import BleakError
from bumble.keys import MemoryKeyStore
from lab.bumble_radio import ADAPTER_ADDRESS, Air, BumbleBackend

from gatewayd.errors import LinkError, LinkLost
from gatewayd.link import ble, radio
from gatewayd.link.ble import CONNECT_TRIES, UNREAD_LIMIT, BleLink
from gatewayd.link.radio import Limits, Radio
from gatewayd.link.radios import Radios, only, reserve
from gatewayd.link.target import Target
from gatewayd.protocol.rcp.kind import GATT
from gatewayd.simulator.peripheral import Peripheral

attack = pytest.mark.attack
ADDRESS = "C0:FF:EE:00:00:01"
SHORT = Limits(scan_s=0.3)
TAG = Target(address=ADDRESS)


@dataclass
class Lab:
    """One adapter, and whatever a test puts near it."""

    air: Air
    adapter: BumbleBackend
    radios: list[Radio] = field(default_factory=list)

    def radio(self, max_connections: int = 3) -> Radio:
        self.radios.append(Radio(max_connections=max_connections, backend=self.adapter.backend))
        return self.radios[-1]

    def link(self, target: Target = TAG, **settings: Any) -> BleLink:
        given: dict[str, Any] = {"pair": False} | settings
        radio: Radio = given.pop("radio", None) or self.radio()
        return BleLink(only(radio), target, GATT, **given)

    async def tag(self, **settings: Any) -> Peripheral:
        return await self.air.peripheral("tag-7", ADDRESS, **settings)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    air = Air()
    lab = Lab(air, await air.backend())
    yield lab
    for each in lab.radios:
        await each.close()
    await air.close()


@pytest.mark.parametrize(("mtu", "size"), [(23, 20), (185, 182), (247, 244), (517, 512)])
async def test_a_frame_is_one_write_as_large_as_the_connection_allows(lab: Lab, mtu: int, size: int) -> None:
    tag = await lab.tag(mtu=mtu)
    link = lab.link()
    assert link.max_datagram is None
    await link.open()
    assert link.max_datagram == size
    await link.send(bytes(size), confirmed=True)
    assert tag.frames == [bytes(size)]
    await link.close()
    assert link.max_datagram is None


async def test_frames_arrive_in_order_both_ways(lab: Lab) -> None:
    tag = await lab.tag()
    link = lab.link()
    await link.open()
    sent = [bytes([number]) * 200 for number in range(100)]
    for frame in sent[:-1]:
        await link.send(frame)
    await link.send(sent[-1], confirmed=True)
    assert tag.frames == sent
    for frame in sent:
        await tag.notify(frame)
    assert [await link.receive() for _ in sent] == sent
    await link.close()


async def test_a_lost_connection_is_said_after_what_came_before_it(lab: Lab) -> None:
    tag = await lab.tag()
    link = lab.link()
    await link.open()
    await tag.notify(b"last words")
    await tag.drop()
    assert await link.receive() == b"last words"
    with pytest.raises(LinkLost, match="connection ended"):
        await link.receive()
    with pytest.raises(LinkLost, match="connection ended"):
        await link.send(b"more")
    await link.close()
    await link.open()
    await link.send(b"again", confirmed=True)
    assert tag.frames[-1] == b"again"
    await link.close()


@attack("notifies without an end")
async def test_what_nobody_takes_is_dropped(lab: Lab) -> None:
    tag = await lab.tag()
    link = lab.link()
    await link.open()
    kept = UNREAD_LIMIT // 244
    for _ in range(kept + 50):
        await tag.notify(bytes(244))
    await tag.drop()
    received = [await link.receive() for _ in range(kept)]
    assert received == [bytes(244)] * kept
    with pytest.raises(LinkLost):
        await link.receive()
    await link.close()


@pytest.mark.parametrize(
    "target",
    [
        Target(address=ADDRESS.lower()),
        Target(name="tag-7"),
        Target(service_data=(GATT.service, b"\x01\x02")),
        Target(address=ADDRESS, service_data=(GATT.service, b"\x01")),
    ],
)
async def test_a_device_is_found_by_what_it_says(lab: Lab, target: Target) -> None:
    await lab.air.peripheral("tag-8", "C0:FF:EE:00:00:02")
    tag = await lab.tag()
    if target.service_data:
        await tag.advertise(service_data=b"\x01\x02\x03")
    link = lab.link(target)
    await link.open()
    await link.send(b"it is me", confirmed=True)
    assert tag.frames == [b"it is me"]
    await link.close()


@pytest.mark.parametrize("target", [Target(name="tag-9"), Target(address=ADDRESS, name="tag-9")])
async def test_one_that_is_not_heard_is_named(lab: Lab, target: Target) -> None:
    await lab.tag()
    with pytest.raises(LinkError) as raised:
        await lab.link(target, limits=SHORT).open()
    assert raised.value.code == "not_heard"
    assert str(target) in str(raised.value)


async def test_another_service_is_no_rcp_and_the_slot_is_free_again(lab: Lab) -> None:
    await lab.tag(has_service=False)
    link = lab.link(radio=lab.radio(max_connections=1))
    for _ in range(2):
        with pytest.raises(LinkError) as raised:
            await link.open()
        assert raised.value.code == "no_service"


async def test_a_connect_is_tried_again_and_not_for_ever(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ble, "RETRY_S", 0.0)
    await lab.tag()
    lab.adapter.connect_faults = [BleakError("le-connection-abort-by-local"), TimeoutError()]
    link = lab.link()
    await link.open()
    await link.close()
    lab.adapter.connects = 0
    lab.adapter.connect_faults = [BleakError("le-connection-abort-by-local")] * (CONNECT_TRIES + 1)
    with pytest.raises(LinkError, match="abort-by-local") as raised:
        await link.open()
    assert (raised.value.code, lab.adapter.connects) == ("connect_failed", CONNECT_TRIES)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (BleakError("adapter 'hci7' not found"), "adapter_missing"),
        (BleakError("No Bluetooth adapters found."), "adapter_missing"),
        (BleakError("No powered Bluetooth adapters found."), "adapter_blocked"),
        (BleakError("org.bluez.Error.NotReady", "Resource Not Ready"), "adapter_blocked"),
        (BleakError("org.freedesktop.DBus.Error.ServiceUnknown", "org.bluez"), "bluetooth_missing"),
        (FileNotFoundError(2, "No such file or directory"), "bluetooth_missing"),
        (BleakError("org.freedesktop.DBus.Error.AccessDenied", "rejected"), "link_denied"),
        (EOFError(), "bluetooth_missing"),
        (BleakError("org.bluez.Error.InProgress", "Operation already in progress"), "adapter_busy"),
        (OSError(24, "Too many open files"), "too_many_files"),
        (BleakError("org.freedesktop.DBus.Error.LimitsExceeded", "connections"), "too_many_files"),
        (TimeoutError(), "adapter_silent"),
        (BleakError("org.bluez.Error.Failed", "whatever"), "adapter_failed"),
    ],
)
async def test_an_adapter_that_cannot_is_told_apart_and_heals(lab: Lab, fault: Exception, code: str) -> None:
    await lab.tag()
    link = lab.link()
    lab.adapter.fault = fault
    with pytest.raises(LinkError) as raised:
        await link.open()
    assert raised.value.code == code
    lab.adapter.fault = None
    await link.open()
    await link.close()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (BleakError("org.bluez.Error.InProgress", "br-connection-busy"), "adapter_busy"),
        (OSError(24, "Too many open files"), "too_many_files"),
        (BleakError("org.freedesktop.DBus.Error.UnknownObject", "Method"), "device_forgotten"),
        (BleakError("device '/org/bluez/hci0/dev_C0' not found"), "device_forgotten"),
        (TimeoutError(), "connect_failed"),
        (AssertionError(), "connect_failed"),
        (BleakError("org.bluez.Error.Failed", "ATT error: 0x11 (Insufficient Resources)"), "no_resources"),
        (BleakError("org.bluez.Error.NotPermitted", "Notify acquired"), "characteristic_held"),
        (BleakError("org.bluez.Error.Failed", "ATT error: 0x0f (Insufficient Encryption)"), "pairing_failed"),
        (BleakError("org.bluez.Error.AuthenticationFailed", "Authentication Failed"), "pairing_failed"),
    ],
)
async def test_what_a_connect_fails_of_has_its_own_code(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, fault: Exception, code: str
) -> None:
    monkeypatch.setattr(ble, "RETRY_S", 0.0)
    await lab.tag()
    lab.adapter.connect_faults = [fault] * ble.CONNECT_TRIES
    with pytest.raises(LinkError) as raised:
        await lab.link().open()
    assert raised.value.code == code
    assert raised.value.hint or code == "connect_failed"


async def test_one_that_waited_long_for_a_slot_is_found_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radio, "FRESH_S", 0.0)
    await lab.tag()
    link = lab.link()
    with pytest.raises(LinkError, match="too long ago") as raised:
        await link.open()
    assert (raised.value.code, lab.adapter.connects) == ("device_forgotten", 0)
    assert lab.adapter.scans == 1 + ble.CONNECT_TRIES
    monkeypatch.undo()
    await link.open()
    await link.close()


@pytest.mark.parametrize("fault", [BleakError("No powered Bluetooth adapters found."), None])
async def test_any_adapter_means_any(lab: Lab, fault: BleakError | None) -> None:
    """Also where the first is blocked, or hears nothing."""
    deaf = await Air().backend()
    deaf.fault = fault
    await lab.tag()
    first, second = Radio("hci0", backend=deaf.backend), Radio("hci1", backend=lab.adapter.backend)
    lab.radios += [first, second]

    async def both() -> list[Radio]:
        return [first, second]

    link = BleLink(both, TAG, GATT, pair=False)
    await link.open()
    assert (first.free_slots, second.free_slots) == (3, 2)
    await link.close()
    assert (first.free_slots, second.free_slots) == (3, 3)


async def test_that_no_adapter_has_heard_it_outweighs_that_one_is_blocked(lab: Lab) -> None:
    blocked = await Air().backend()
    blocked.fault = BleakError("No powered Bluetooth adapters found.")
    radios = [Radio(backend=blocked.backend), lab.radio()]
    with pytest.raises(LinkError) as raised:
        await reserve(radios, TAG, 0.2)
    assert raised.value.code == "not_heard"
    with pytest.raises(LinkError) as raised:
        await reserve(radios[:1], TAG, 0.2)
    assert raised.value.code == "adapter_blocked"


async def test_an_adapter_is_named_by_its_address(lab: Lab) -> None:
    radios = Radios({ADAPTER_ADDRESS: 7}, backend=lab.adapter.backend, list_adapters=lambda: ["hci0"])
    for name in (ADAPTER_ADDRESS, "hci0", None):
        [radio] = await radios.choose(name)
        assert (radio.adapter, radio.free_slots) == ("hci0", 7)
    with pytest.raises(LinkError, match="DC:A6:32:00:00:02 is not there") as raised:
        await radios.choose("DC:A6:32:00:00:02")
    assert raised.value.code == "adapter_missing"


@pytest.mark.parametrize(
    ("pair", "answers", "forgets"), [(False, False, True), (False, True, False), (True, False, False)]
)
async def test_services_are_discovered_again_after_silence_and_a_bond_is_left_alone(
    lab: Lab, pair: bool, answers: bool, forgets: bool
) -> None:
    tag = await lab.tag(needs_bond=pair)
    link = lab.link(pair=pair)
    await link.open()
    await link.send(b"hello", confirmed=True)
    if answers:
        await tag.notify(b"it is me")
        assert await link.receive() == b"it is me"
    assert ("bluetoothctl remove" in link.silence_hint) is pair
    assert not link.silence_code, "the bond was made just now"
    await link.close()
    connections: Any = lab.adapter.backend.connections
    assert connections.forgotten == [ADDRESS] * forgets


async def test_one_scan_serves_all_and_connects_come_one_at_a_time(lab: Lab) -> None:
    tags = [await lab.air.peripheral(f"tag-{n}", f"C0:FF:EE:00:02:{n:02X}") for n in range(6)]
    shared = lab.radio(max_connections=6)
    links = [lab.link(Target(name=f"tag-{n}"), radio=shared) for n in range(6)]
    await asyncio.gather(*(link.open() for link in links))
    assert lab.adapter.most_connecting == 1
    for link in links:
        await link.send(b"at the same time")
    await asyncio.gather(*(link.send(b"end", confirmed=True) for link in links))
    assert [tag.frames for tag in tags] == [[b"at the same time", b"end"]] * 6
    for link in links:
        await link.close()


async def test_no_more_connections_than_the_adapter_holds(lab: Lab) -> None:
    for n in range(3):
        await lab.air.peripheral(f"tag-{n}", f"C0:FF:EE:00:02:{n:02X}")
    shared = lab.radio(max_connections=2)
    links = [lab.link(Target(name=f"tag-{n}"), radio=shared) for n in range(3)]
    await links[0].open()
    await links[1].open()
    third = asyncio.create_task(links[2].open())
    await asyncio.wait([third], timeout=0.2)
    assert (third.done(), lab.adapter.connects) == (False, 2)
    await links[0].close()
    await third
    assert lab.adapter.connects == 3
    for link in links:
        await link.close()


async def test_an_absent_device_holds_no_slot(lab: Lab) -> None:
    await lab.tag()
    shared = lab.radio(max_connections=1)
    absent = asyncio.create_task(lab.link(Target(name="gone"), radio=shared).open())
    await asyncio.sleep(0)
    link = lab.link(radio=shared)
    await link.open()
    await link.close()
    absent.cancel()
    await asyncio.wait([absent])


async def test_a_sleepy_device_is_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio, "SCAN_S", 0.02)
    monkeypatch.setattr(radio, "REST_S", 0.02)
    link = lab.link(waits_for_advertisement=True)
    waiting = asyncio.create_task(link.open())
    await asyncio.wait([waiting], timeout=2 * SHORT.scan_s)
    assert not waiting.done()
    assert lab.adapter.scans > 1
    await lab.tag()
    await waiting
    await link.close()


async def test_nobody_scans_when_nobody_seeks(lab: Lab) -> None:
    with pytest.raises(LinkError):
        await lab.link(Target(name="gone"), limits=Limits(scan_s=0.05)).open()
    while lab.adapter.central.is_scanning:  # noqa: ASYNC110 - bumble has no event for it
        await asyncio.sleep(0)


@attack("offers firmware to a device that demands a bond, and has none")
@pytest.mark.parametrize("pair", [True, False])
async def test_a_bonded_device_takes_frames_from_who_has_paired(lab: Lab, pair: bool) -> None:
    tag = await lab.tag(needs_bond=True)
    link = lab.link(pair=pair)
    await link.open()
    await link.send(b"offer")
    if pair:
        await link.send(b"offer", confirmed=True)
        assert tag.frames == [b"offer", b"offer"]
    else:
        with pytest.raises(LinkLost, match="write failed"):
            await link.send(b"offer", confirmed=True)
        assert tag.frames == []
    assert lab.adapter.pairs == pair
    await link.close()


async def test_a_device_that_a_former_life_left_connected_is_heard_again(lab: Lab) -> None:
    tag = await lab.tag()
    former = lab.link()
    await former.open()  # and never closed, as nobody does who is killed
    with pytest.raises(LinkError, match="not heard"):
        await lab.link(limits=SHORT).open()
    radios = Radios({}, backend=lab.adapter.backend, list_adapters=lambda: ["hci0"])
    link = lab.link(radio=(await radios.choose(None))[0])
    await link.open()
    await radios.stale_connections.clear([TAG])  # what this life has made stays
    await link.send(b"again", confirmed=True)
    assert tag.frames == [b"again"]
    await link.close()
    await radios.close()


async def test_a_bond_is_made_once_and_one_that_the_device_has_forgotten_is_told_of(lab: Lab) -> None:
    tag = await lab.tag(needs_bond=True)
    link = lab.link(pair=True)
    for _ in range(2):
        await link.open()
        await link.send(b"offer", confirmed=True)
        await link.close()
    assert (lab.adapter.bonds, tag.frames) == (1, [b"offer"] * 2)
    await link.open()
    assert link.silence_code == "bond_lost", "BlueZ says no more than that there is a bond"
    await tag.notify(b"it is me")
    assert await link.receive() == b"it is me"
    assert not link.silence_code
    await link.close()
    tag.device.keystore = MemoryKeyStore()
    with pytest.raises(LinkError) as raised:
        await link.open()
    assert raised.value.code == "pairing_failed"
    assert "bluetoothctl remove" in raised.value.hint
