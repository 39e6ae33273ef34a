"""`gatewayctl fleet status` where the broker takes its time: silence counts from its answer on."""

import asyncio
import json
from pathlib import Path

from lab.brokers import Packet, Peer, ScriptedBroker, packet, text

from gatewayd.config import load
from gatewayd.fleet import status
from gatewayd.fleet.status import read_fleet
from gatewayd.status.board import DeviceStatus

SUBSCRIBE = 8
QUIET_S = 0.2
NAMES = [f"g{number}" for number in range(status.BATCH)]


def retained(topic: str, payload: bytes) -> bytes:
    return packet(3, text(topic) + b"\0" + payload)


def subscribe(peer: Peer, got: Packet) -> None:
    """Grant at once what is asked for statuses, and later what is asked for devices."""
    topics = got.body.count(b"gatewayd/")
    answers = [packet(9, got.body[:2] + b"\0" + b"\0" * topics)]
    delay_s = 0.0
    if b"/devices/+" in got.body:
        idle = DeviceStatus("pump-1", "idle").to_bytes()
        answers += [retained(f"gatewayd/{name}/devices/pump-1", idle) for name in NAMES]
        delay_s = 3 * QUIET_S
    elif b"/status" in got.body:
        answers += [retained(f"gatewayd/{name}/status", b"online") for name in NAMES]
    asyncio.get_running_loop().call_later(delay_s, peer.send, *answers)


async def test_the_devices_of_a_full_batch_are_waited_for(tmp_path: Path) -> None:
    async with ScriptedBroker({SUBSCRIBE: subscribe}) as broker:
        file = tmp_path / "config.yaml"
        mqtt = {"host": "127.0.0.1", "port": broker.port}
        file.write_text(json.dumps({"mqtt": mqtt, "devices": [], "gateway": {"id": "desk"}}))
        found = await read_fleet(load(file), quiet_s=QUIET_S)
    assert [len(one.devices) for one in found.gateways] == [1] * status.BATCH
