"""Updates over the real BlueZ, from MQTT message to new version; bumble is the radio and the devices.

One daemon, with Debian's bleak, lives through all of them but the last, which has the newest.
"""

import json
import os
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from lab.ble_device import PythonTag
from lab.farm import Gateway, farm
from lab.smp.memory import firmware
from lab.smp.tag import SmpTag

from gatewayd.simulator.profile import DeviceProfile
from suites.vm.guest.air import KernelAir

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = random.Random(5).randbytes(40_000)
# An emulated processor on a busy machine.
LIMIT_S = 240.0
# More often, bluetoothd here comes to nothing else than to hear it.
ADVERTISING_MS = 200
# Of an image with SMP, these bytes go with the question where the upload goes on.
SMP_HEADER = 32
NEWEST_BLEAK = "/opt/bleak-newest"
NAMES = ("early", "dropped", "left", "right", "orphan", "bonded", "sensor", "killed", "newest")
ADDRESSES = {name: f"C0:FF:EE:00:00:{number:02X}" for number, name in enumerate(NAMES, 1)}


@dataclass
class Place:
    """The gateway, the air with the adapter in it, and devices by their names."""

    gateway: Gateway
    air: KernelAir
    tags: dict[str, PythonTag] = field(default_factory=dict)

    async def tag(self, name: str, *, erase_s: float = 0.0, **settings: Any) -> PythonTag:
        """Put a device of the configuration into the air."""
        profile = DeviceProfile(
            app_id=name, version="1.0.0", slot_address=0x2000, boot_s=0.05, erase_s=erase_s
        )
        settings |= {"advertising_ms": ADVERTISING_MS}
        self.tags[name] = await PythonTag.at(self.air, name, ADDRESSES[name], profile, **settings)
        return self.tags[name]

    async def publish(self, name: str) -> None:
        """Publish the next version for the device of that name alone."""
        await self.gateway.send(f"/a/{name}/u/1.0", b"\1" + IMAGE)

    async def until(self, name: str, state: str, code: str | None = None) -> None:
        def reached() -> bool:
            status = self.gateway.status.get(name, {})
            return status.get("state") == state and code in (None, status.get("code"))

        await self.gateway.until(reached, f"{name} {state} {code or ''}", LIMIT_S)

    async def until_updated(self, name: str) -> None:
        await self.until(name, "succeeded")
        assert self.tags[name].receiver.running_image == IMAGE
        await self.tags[name].peripheral.device.stop_advertising()

    async def until_in_mid_transfer(self, name: str) -> None:
        tag = self.tags[name]
        await self.gateway.until(
            lambda: tag.data_bytes > len(IMAGE) // 10, f"{name} in mid-transfer", LIMIT_S
        )

    def sent_again(self, name: str) -> int:
        return self.tags[name].data_bytes - len(IMAGE)


def _device(name: str) -> dict[str, Any]:
    link = {"ble": ADDRESSES[name], "pair": name in ("bonded", "sensor")}
    speaks = {"protocol": "smp", "smp": {"boot_s": 2}} if name == "sensor" else {}
    return speaks | {"name": name, "app_id": name, "version": "1.0.0", "probe": "job", "link": link}


@pytest_asyncio.fixture(name="place", scope="module", loop_scope="module")
async def _place() -> AsyncIterator[Place]:
    async with farm(Path("/out/gateway")) as whole:
        place = Place(whole.gateway, KernelAir())
        # SQLite wants a file system that is not the host's.
        place.gateway.config["gateway"] |= {"state_dir": "/run/gatewayd", "control_socket": "/run/control"}
        place.gateway.config["devices"] = [_device(name) for name in NAMES]
        place.gateway.config_file.write_text(json.dumps(place.gateway.config))
        place.gateway.run()
        yield place
        place.gateway.stop()
        await place.air.unplug()
        for tag in place.tags.values():
            await tag.close()
        await place.air.close()


async def test_it_is_ready_without_an_adapter_and_goes_on_when_one_comes(place: Place) -> None:
    await place.tag("early")
    await place.gateway.until(lambda: place.gateway.log_events("gatewayd is ready"), "READY", LIMIT_S)
    await place.publish("early")
    await place.until("early", "queued", "adapter_missing")
    await place.air.plug()
    await place.until_updated("early")


async def test_a_connection_that_breaks_is_made_again_and_goes_on_where_it_was(place: Place) -> None:
    await _update_with_a_break(place, "dropped")


async def test_two_devices_at_once(place: Place) -> None:
    names = ("left", "right")
    for name in names:
        await place.tag(name, erase_s=0.5)
        await place.publish(name)
    for name in names:
        await place.until_updated(name)
    told = [(name, status["state"]) for name, status in place.gateway.history]
    begun = [told.index((name, "transferring")) for name in names]
    # Statuses are merged on their way, so `activating` may be skipped.
    ended = [at for at, one in enumerate(told) if one in [(name, "succeeded") for name in names]]
    assert max(begun) < min(ended)


async def test_an_adapter_that_vanishes_and_returns(place: Place) -> None:
    tag = await place.tag("orphan")
    await place.publish("orphan")
    await place.until_in_mid_transfer("orphan")
    await place.air.unplug()
    await place.until("orphan", "queued", "adapter_missing")
    await place.air.plug()
    await place.until_updated("orphan")
    assert 0 <= place.sent_again("orphan") <= tag.receiver.profile.window


async def test_a_bonded_device(place: Place) -> None:
    await place.tag("bonded", needs_bond=True)
    await place.publish("bonded")
    await place.until_updated("bonded")


async def test_a_device_with_smp_that_is_bonded_and_whose_connection_breaks(place: Place) -> None:
    new = firmware(1)
    sensor = await SmpTag.at(
        place.air, "sensor", ADDRESSES["sensor"], needs_bond=True, advertising_ms=ADVERTISING_MS
    )
    sensor.cut_after = len(new) // 2
    await place.gateway.send("/a/sensor/u/1.0", b"\1" + new)
    await place.until("sensor", "succeeded")
    assert sensor.runs == (new, True)
    assert sensor.server.image_bytes - len(new) == SMP_HEADER
    await sensor.peripheral.device.stop_advertising()
    await sensor.close()


async def test_killed_in_mid_transfer_it_finds_the_device_that_it_left_connected(place: Place) -> None:
    tag = await place.tag("killed")
    await place.publish("killed")
    await place.until_in_mid_transfer("killed")
    place.gateway.stop(signal.SIGKILL)
    assert tag.peripheral.connection is not None
    place.gateway.run()
    await place.until_updated("killed")
    assert 0 <= place.sent_again("killed") <= tag.receiver.profile.window


async def test_the_newest_bleak_does_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.gateway.stop()
    monkeypatch.setenv("PYTHONPATH", f"{NEWEST_BLEAK}:{os.environ['PYTHONPATH']}")
    place.gateway.run()
    await _update_with_a_break(place, "newest")


async def _update_with_a_break(place: Place, name: str) -> None:
    tag = await place.tag(name)
    tag.cut_after = len(IMAGE) // 2
    await place.publish(name)
    await place.until_updated(name)
    assert tag.cut_after is None
    assert 0 <= place.sent_again(name) <= tag.receiver.profile.window
