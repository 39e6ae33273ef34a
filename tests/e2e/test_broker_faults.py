"""What a broker and the way to it may do to the daemon's process: nothing is lost, nothing happens twice."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest_asyncio
from lab.broker_session import publisher
from lab.farm import Farm, VirtualDevice, image_of
from lab.farm import farm as a_farm
from lab.jobs import message
from lab.relay import Relay
from suites.bench.daemons import memory_mib

from gatewayd.control.client import ask
from gatewayd.control.messages import StatusResult
from gatewayd.control.requests import Status

TOPIC = "/a/pump/u/4.3"
# The broker's own durability: without these lines a mosquitto that is killed forgets what it had confirmed.
DURABLE = ("persistence true", "autosave_on_changes true", "autosave_interval 1")
# What is a minute, and rightly so, would be a minute for each test.
FAST = """
from gatewayd.mqtt import connection, duty_cycle
connection.MAX_BACK_OFF_S, duty_cycle.LOOK_S = 0.5, 0.1
duty_cycle.next_visit_s = lambda connected_at_s, every_s, _: connected_at_s + every_s / 2
from gatewayd import allowance
allowance.MINUTE_S = 0  # each replay is told
"""
# Longer than a busy machine lets the daemon wait for its turn, and than an update takes.
SOON_NOTICED = """
from gatewayd.mqtt import login
login.KEEPALIVE_S = 4
"""
# An image is on its way for so long that what a test does meanwhile is over before, on a busy machine, too.
LONG_BYTES, SLOW = 90_000, 15_000
REPLAYS = 1000


class Story:
    """One device that takes bare images; its releases are 4.3.2, 4.3.3 and so on."""

    def __init__(self, whole: Farm, device: VirtualDevice) -> None:
        self.gateway, self.device = whole.gateway, device
        self.broker = whole.gateway.broker

    async def publish(self, patch: int, size: int = 20_000) -> None:
        await self.gateway.send(TOPIC, message(patch, image_of(patch, size)))

    async def begun(self) -> None:
        await self.gateway.until(lambda: self.count("transfer"), "a transfer")

    def lost_the_broker_in_mid_transfer(self) -> bool:
        log = (self.gateway.folder / "gatewayd.log").read_text()
        return log.index('"transfer"') < log.index('"no connection to the broker"') < log.index('"staged"')

    async def installed(self, patch: int) -> None:
        await self.gateway.until_state("pump-1", "succeeded", installed_version=f"4.3.{patch}")
        await self.gateway.until(lambda: self.gateway.gateway_status == "online", "online")

    def is_told_once(self, *patches: int, size: int = 20_000) -> None:
        """Nothing was lost, nothing was done twice, and the device runs the last."""
        assert self.gateway.jobs() == [("pump-1", f"4.3.{patch}", "succeeded") for patch in patches]
        assert [entry["offset"] for entry in self.gateway.log_events("transfer")] == [0] * len(patches)
        assert self.device.active == image_of(patches[-1], size)

    def count(self, event: str) -> int:
        return (self.gateway.folder / "gatewayd.log").read_text().count(f'"{event}"')


@pytest_asyncio.fixture(name="durable")
async def _durable(tmp_path: Path) -> AsyncIterator[Farm]:
    async with a_farm(tmp_path, "barn", *DURABLE, f"persistence_location {tmp_path}/") as whole:
        yield whole


async def story(whole: Farm, *, port: int | None = None, rate: int = 0, preset: str = "") -> Story:
    gateway = whole.gateway
    device = whole.device("pump-1", rate=rate)
    gateway.config["devices"] = [device.config(payload="standard", keys=None)]
    gateway.config["mqtt"]["port"] = port or gateway.broker.port
    gateway.preset = FAST + preset
    gateway.start()
    await gateway.until(lambda: gateway.gateway_status == "online" and gateway.status, "online")
    return Story(whole, device)


@asynccontextmanager
async def relayed(whole: Farm, preset: str = "") -> AsyncIterator[tuple[Story, Relay]]:
    async with Relay(whole.gateway.broker.port) as relay:
        yield await story(whole, port=relay.port, preset=preset), relay
        whole.gateway.stop()


async def test_a_broker_that_restarts_disturbs_no_transfer_and_loses_no_message(durable: Farm) -> None:
    told = await story(durable, rate=SLOW)
    await told.publish(2, LONG_BYTES)
    await told.begun()
    told.broker.stop()
    told.broker.start()
    await told.installed(2)
    assert told.lost_the_broker_in_mid_transfer()
    told.gateway.stop()
    await told.publish(3)
    told.broker.stop()
    told.broker.start()
    told.gateway.start()
    await told.installed(3)
    told.is_told_once(2, 3)
    assert [entry["session"] for entry in told.gateway.log_events("connected to the broker")][-1] == "kept"


async def test_a_broker_that_is_killed_in_mid_message_sends_it_again(durable: Farm) -> None:
    async with relayed(durable) as (told, relay):
        relay.line.down.shut(after_bytes=300_000)
        await told.publish(2, 900_000)
        await told.gateway.until(lambda: relay.line.down.is_shut, "a third of the message")
        # It confirms before it saves: killed in between it would have lost what it had promised to keep.
        saved = durable.folder / "mosquitto.db"
        await told.gateway.until(lambda: saved.stat().st_size > 900_000, "the broker's own durability")
        assert told.count("release stored") == 0
        told.broker.kill()
        relay.line.down.open()
        told.broker.start()
        await told.installed(2)
        told.is_told_once(2, size=900_000)


async def test_another_client_of_our_name_is_named_and_takes_nothing_away(durable: Farm) -> None:
    told = await story(durable, rate=SLOW)
    await told.publish(2, LONG_BYTES)
    await told.begun()
    port, gateway = told.broker.port, told.gateway
    for patch in (3, 4):
        connections = told.count("connected to the broker")
        async with publisher(port, client_id="gatewayd-barn", session_expiry_s=3600):
            await told.publish(patch)  # to the other, which does not acknowledge it
            await gateway.until(lambda: told.count("connected to the broker") > connections, "us again")  # noqa: B023 - awaited here
    await told.installed(4)
    assert told.lost_the_broker_in_mid_transfer()
    reasons = [entry["reason"] for entry in gateway.log_events("no connection to the broker")]
    assert any("another client with id gatewayd-barn" in reason for reason in reasons), reasons
    assert [version for _, version, state in gateway.jobs() if state == "succeeded"] in (
        ["4.3.2", "4.3.4"],
        ["4.3.2", "4.3.3", "4.3.4"],
    )


async def test_a_broker_that_forgot_us_sends_everything_again_and_nothing_is_installed(durable: Farm) -> None:
    told = await story(durable)
    await told.publish(2)
    await told.installed(2)
    async with publisher(told.broker.port, client_id="gatewayd-barn"):  # a clean start ends our session
        pass
    await told.gateway.until(lambda: told.count("release is already here"), "the retained message again")
    told.broker.stop()
    (durable.folder / "mosquitto.db").unlink()
    told.broker.start()
    await told.gateway.until(lambda: told.count("connected to the broker") == 3, "a new session")
    before = told.count("release is already here")
    await told.publish(2)
    await told.gateway.until(lambda: told.count("release is already here") > before, "the publisher's repair")
    await told.publish(3)
    await told.installed(3)
    told.is_told_once(2, 3)
    sessions = [entry["session"] for entry in told.gateway.log_events("connected to the broker")]
    assert sessions == ["new", "new", "new"]


async def test_a_thousand_replays_install_nothing_and_cost_no_memory(farm: Farm) -> None:
    told = await story(farm)
    await told.publish(2, 64 * 1024)
    await told.installed(2)
    before_mib = memory_mib(told.gateway, "VmHWM")
    again = message(2, image_of(2, 64 * 1024))
    async with aiomqtt.Client("127.0.0.1", told.broker.port) as client:
        for _ in range(REPLAYS // 10):
            await asyncio.gather(*(client.publish(TOPIC, again, qos=1, retain=True) for _ in range(10)))
    await told.gateway.until(lambda: told.count("release is already here") >= REPLAYS, "all replays")
    grown_mib = memory_mib(told.gateway, "VmHWM") - before_mib
    assert grown_mib < 8, "of 64 MiB that came in"
    await told.publish(3)
    await told.installed(3)
    told.is_told_once(2, 3)


async def test_messages_that_are_refused_are_reported_and_block_nothing(farm: Farm) -> None:
    farm.gateway.config["mqtt"]["max_message_mib"] = 1
    told = await story(farm)
    gateway = told.gateway

    def refusals() -> list[tuple[str, str]]:
        status = ask(gateway.folder / "control.sock", Status(), StatusResult)
        return [(one.topic, one.code) for one in status.broker.refused_messages]

    await told.publish(2, 3 * 1024 * 1024)
    await gateway.until(lambda: refusals() == [(TOPIC, "too_large")], "the refusal of 3 MiB")
    await gateway.send(TOPIC, message(2, image_of(2, 20_000)), qos=0)
    await gateway.until(lambda: refusals() == [(TOPIC, "qos0")], "the refusal of QoS 0")
    await told.publish(3)
    await told.installed(3)
    told.is_told_once(3)
    assert refusals() == []
    assert [entry["code"] for entry in gateway.log_events("message refused")] == ["too_large", "qos0"]


async def test_messages_do_not_wait_for_a_slow_device(farm: Farm) -> None:
    told = await story(farm, rate=SLOW)
    await told.publish(2, LONG_BYTES)
    await told.begun()
    for patch in range(3, 10):
        await told.publish(patch)
    await told.gateway.until(lambda: told.count("release stored") == 8, "all messages")
    assert told.gateway.status["pump-1"]["state"] == "transferring"
    await told.installed(9)
    succeeded = [version for _, version, state in told.gateway.jobs() if state == "succeeded"]
    assert succeeded == ["4.3.2", "4.3.9"]
    assert told.device.active == image_of(9, 20_000)


async def test_a_line_that_is_dead_and_not_closed_is_noticed_and_holds_up_no_update(durable: Farm) -> None:
    """First nothing gets through, then neither our acknowledgement nor our reports."""
    async with relayed(durable, SOON_NOTICED) as (told, relay):
        relay.freeze()
        await told.publish(2)
        await told.installed(2)
        assert "Keep alive timeout" in told.gateway.log_events("no connection to the broker")[0]["reason"]
        relay.line.up.shut()
        await told.publish(3)
        await told.gateway.until(lambda: told.device.active == image_of(3, 20_000), "the update")
        assert len(relay.lines) == 2, "it did not wait for another line"
        assert told.gateway.status["pump-1"]["installed_version"] == "4.3.2", "nobody heard of it"
        relay.line.up.open()
        await told.installed(3)
        told.is_told_once(2, 3)


async def test_on_a_metered_link_the_gateway_sleeps_comes_back_and_reports(farm: Farm) -> None:
    gateway = farm.gateway
    gateway.config["mqtt"]["connect"] = {"every": "1h", "wait": "1s"}
    told = await story(farm)

    def reload(**connect: str) -> None:
        gateway.config["mqtt"]["connect"] |= connect
        gateway.write()
        assert gateway.process
        gateway.process.send_signal(signal.SIGHUP)

    def is_asleep() -> bool:
        broker = ask(gateway.folder / "control.sock", Status(), StatusResult).broker
        return not broker.connected and broker.every_s == 5 and broker.next_connection_at is not None

    for every in ("1h", "5s"):
        await gateway.until(lambda: gateway.gateway_status == "sleeping", "sleep")
        reload(every=every)
        await gateway.until(lambda: gateway.gateway_status == "online", "a connection at once after a reload")
    await gateway.until(is_asleep, "what the status says of sleep")  # it tells the broker a moment before
    await told.publish(2)
    await told.installed(2)
    told.is_told_once(2)
    visits = told.count("connected to the broker")
    reload(wait="1m")  # so that it is connected when it is stopped
    await gateway.until(lambda: told.count("connected to the broker") > visits, "a visit")
    gateway.stop()
    await gateway.until(lambda: gateway.gateway_statuses[-1] == "offline", "the goodbye")
    told_so = " ".join(gateway.gateway_statuses)
    # A reload comes in a sleep, or ends a connection that there is.
    assert re.fullmatch("(online sleeping (offline )?){3,}(online offline )?online offline", told_so), told_so
