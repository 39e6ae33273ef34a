"""A daemon in this process, on a virtual radio, with a real mosquitto and devices of both protocols."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import aiomqtt
import pytest

from gatewayd.config import load
from gatewayd.daemon import Daemon
from gatewayd.link.factory import LinkFactory
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.store.store import Store
from lab.ble_device import CTag, PythonTag, Tag
from lab.brokers import Mosquitto
from lab.bumble_radio import Air, BumbleBackend
from lab.smp.tag import SmpTag

LIMIT_S = 120.0
PROFILE = DeviceProfile(app_id="tag", version="1.0.0", slot_address=0x2000, boot_s=0.05)


class Closable(Protocol):
    """A device in the air."""

    async def close(self) -> None:
        """Take it out of the air."""


@dataclass
class Gateway:
    """A daemon with a radio, and what it reports."""

    air: Air
    broker: Mosquitto
    folder: Path
    adapter: BumbleBackend
    max_connections: int = 9
    devices: list[dict[str, Any]] = field(default_factory=list)
    tags: list[Closable] = field(default_factory=list)
    status: dict[str, dict[str, Any]] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def tag(
        self,
        name: str,
        address: str,
        *,
        mtu: int = 247,
        profile: DeviceProfile = PROFILE,
        receiver: str = "python",
        **link: Any,
    ) -> Tag:
        """Put a device into the air and into the configuration."""
        radio: dict[str, Any] = {"mtu": mtu, "needs_bond": link.get("pair", False)}
        tag: Tag
        if receiver == "in_c":
            (self.folder / name).mkdir()
            tag = await CTag.at(self.air, name, address, profile, folder=self.folder / name, **radio)
        else:
            tag = await PythonTag.at(self.air, name, address, profile, **radio)
        self.tags.append(tag)
        self.devices.append(
            {
                "name": name,
                "app_id": "tag",
                "version": "1.0.0",
                "link": {"ble": address, "pair": False} | link,
            }
        )
        return tag

    async def sensor(self, name: str, address: str, *, smp: dict[str, Any], **settings: Any) -> SmpTag:
        """Put a device that speaks SMP into the air and into the configuration."""
        link = settings.pop("link", {"ble": address, "pair": False})
        tag = await SmpTag.at(self.air, name, address, **settings)
        self.tags.append(tag)
        own = {"name": name, "app_id": "tag", "version": "1.0.0", "protocol": "smp", "smp": smp}
        self.devices.append(own | {"link": link})
        return tag

    async def unlisted(self, address: str, device_id: str | None = None) -> PythonTag:
        """Put a device called `tag` into the air alone."""
        tag = await PythonTag.at(self.air, "tag", address, replace(PROFILE, device_id=device_id))
        self.tags.append(tag)
        return tag

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        config = self.folder / "config.yaml"
        tree = {
            "gateway": {"id": "barn", "state_dir": "state", "control_socket": "control.sock"},
            "mqtt": {"host": "127.0.0.1", "port": self.broker.port},
            "adapters": {"hci0": {"max_connections": self.max_connections}},
            "devices": self.devices,
        }
        config.write_text(json.dumps(tree))
        settings = load(config)
        async with Store(settings.gateway.state_dir) as store:
            daemon = Daemon(settings, store, LinkFactory(settings.adapters, self.adapter.backend))
            running = asyncio.create_task(daemon.run(asyncio.Event()))
            watching = asyncio.create_task(self._watch())
            try:
                yield
            finally:
                running.cancel()
                watching.cancel()
                await asyncio.wait([running, watching])

    async def publish(self, version: str, image: bytes, app: str = "tag") -> None:
        line, _, patch = version.rpartition(".")
        async with aiomqtt.Client("127.0.0.1", self.broker.port) as client:
            await client.publish(f"/a/{app}/u/{line}", bytes([int(patch)]) + image, qos=1, retain=True)

    async def until(
        self, name: str, state: str, code: str | None = None, *, limit_s: float = LIMIT_S
    ) -> dict[str, Any]:
        async with asyncio.timeout(limit_s):
            while (found := self.status.get(name, {})).get("state") != state or code not in (
                None,
                found["code"],
            ):
                self.news.clear()
                await self.news.wait()
        return self.status[name]

    async def _watch(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self.broker.port) as client:
            await client.subscribe("gatewayd/barn/devices/#", qos=1)
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                if message.payload:
                    self.status[str(message.topic).rsplit("/", 1)[1]] = json.loads(message.payload)
                    self.news.set()


@pytest.fixture(name="gateway")
async def gateway_on_a_radio(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose air is empty."""
    air = Air()
    with Mosquitto(tmp_path / "mosquitto") as broker:
        whole = Gateway(air, broker, tmp_path, await air.backend())
        yield whole
        for tag in whole.tags:
            await tag.close()
    await air.close()
