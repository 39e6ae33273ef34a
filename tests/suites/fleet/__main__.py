"""`make fleet-bench`: one mosquitto, 200 gateways with ten devices each, one release to all.

It ends with 1 when a device fails, or anything else is not as it should be.

What is real: the broker, a session of each gateway with it, each gateway's store on the disk, verification,
planning, jobs, reports, and both ends of the protocol. What is not: the lines, which take no time, and the
machine: 200 gateways and 2,000 devices share one processor. So the time says what this machine can do, and
nothing of a fleet; the traffic is the broker's own count.
"""

import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiomqtt
import click
from lab.brokers import Mosquitto
from lab.containers import gatewayctl
from lab.crowd import cpu_seconds, rss_mib
from lab.farm import KEY

from gatewayd.fleet.status import FleetStatus
from suites.fleet.gateways import SLOT_ADDRESS

VERSION = "4.3.2"
LIMIT_S = 900.0
ROOT_TOPIC = "gatewayd"
_TRAFFIC = {"in": "$SYS/broker/bytes/received", "out": "$SYS/broker/bytes/sent"}
_SYS_INTERVAL_S = 1


@dataclass
class Found:
    """What came of it; times in seconds from the publication."""

    gateways: int
    devices: int
    image_bytes: int
    message_bytes: int
    ready_s: float  # from the start of the first gateway until every device was heard from
    succeeded_s: list[float]
    failed: dict[str, str]
    more_attempts: int
    reports: int
    traffic_bytes: dict[str, int]
    observed_bytes: int
    broker_cpu_s: float
    broker_rss_mib: float
    fleet_status_s: float
    fleet_status: dict[str, Any]
    troubles: list[str]


@dataclass
class Observer:
    """Hears all reports, as an operator's tool would, and the broker's own figures."""

    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    reached: dict[tuple[str, str], float] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    reports: int = 0
    observed_bytes: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self, port: int) -> None:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe(f"{ROOT_TOPIC}/+/devices/+")
            for topic in _TRAFFIC.values():
                await client.subscribe(topic)
            async for message in client.messages:
                self._hear(message.topic.value, bytes(message.payload))

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic.startswith("$SYS"):
            self.traffic[topic] = int(payload)
        else:
            name = topic.removeprefix(f"{ROOT_TOPIC}/").replace("/devices/", "/")
            self.states[name] = status = json.loads(payload)
            self.reached.setdefault((name, status["state"]), time.monotonic())
            self.reports += 1
            self.observed_bytes += len(topic) + len(payload) + 4
        self.news.set()

    async def until(self, reached: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                while not reached():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}") from None

    async def next_traffic(self) -> dict[str, int]:
        """Return the broker's count, made after now."""
        await asyncio.sleep(2.5 * _SYS_INTERVAL_S)
        return {name: self.traffic.get(topic, 0) for name, topic in _TRAFFIC.items()}


class Fleet:
    """The broker, the configuration that all gateways share, and their processes."""

    def __init__(self, folder: Path, gateways: int, devices: int, processes: int) -> None:
        self.folder = folder
        self.gateways, self.devices, self.processes = gateways, devices, processes
        self.config = folder / "config.yaml"
        self.broker = Mosquitto(
            folder / "mosquitto", f"sys_interval {_SYS_INTERVAL_S}", "log_type error", "max_queued_messages 0"
        )
        self._running: list[subprocess.Popen[bytes]] = []
        keys = {"decrypt.key": KEY.decrypt_key, "verify.key": KEY.verify_key, "ota.key": KEY.to_file()}
        for name, content in keys.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)

    def write_config(self) -> None:
        """One file for all: what differs is the host name."""
        names = [f"pump-{number}" for number in range(self.devices)]
        tree = {
            "gateway": {"state_dir": "state/${hostname}", "control_socket": "sockets/${hostname}"},
            "mqtt": {"host": "127.0.0.1", "port": self.broker.port},
            "keys": {"pump": {"decrypt_key_file": "decrypt.key", "verify_key_file": "verify.key"}},
            "defaults": {"app_id": "pump", "version": "4.3.1", "payload": "advanced", "keys": "pump"},
            "devices": [{"name": name, "link": {"uart": f"/memory/{name}"}} for name in names],
        }
        (self.folder / "sockets").mkdir()
        self.config.write_text(json.dumps(tree))

    def start(self) -> None:
        each = -(-self.gateways // self.processes)
        for first in range(0, self.gateways, each):
            count = min(each, self.gateways - first)
            command = [sys.executable, str(Path(__file__).with_name("gateways.py"))]
            with (self.folder / f"gateways-{first}.log").open("wb") as log:
                words = [str(self.config), str(first), str(count)]
                self._running.append(subprocess.Popen([*command, *words], stderr=log))

    def stop(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(60)

    def publish(self, image: bytes) -> int:
        """Publish as a person does; return the size of the message."""
        rom, container = self.folder / "rom.bin", self.folder / "pump.ota"
        rom.write_bytes(image)
        ctl("pack", "--key", self.folder / "ota.key", "-o", container, f"{SLOT_ADDRESS:#x}={rom}")
        where = ("--config", self.config, "--app", "pump", "--version", VERSION, "--json")
        return int(json.loads(ctl("publish", *where, container))["size"])

    def troubles(self) -> list[str]:
        """Return what gateways logged as warnings and errors, but for what the configuration deserves."""
        lines = [line for log in self.folder.glob("gateways-*.log") for line in log.read_text().splitlines()]
        entries = [json.loads(line) if line.startswith("{") else {"event": line} for line in lines]
        return [
            " ".join(str(one[key]) for key in ("event", "device", "code", "reason") if key in one)
            for one in entries
            if one.get("level") not in ("info", "debug")
        ]

    def __enter__(self) -> Self:
        self.broker.start()
        self.write_config()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.broker.stop()


def ctl(*words: object) -> str:
    ran = gatewayctl(*map(str, words))
    assert ran.exit_code == 0, ran
    return ran.out


@asynccontextmanager
async def observing(port: int) -> AsyncIterator[Observer]:
    observer = Observer()
    listening = asyncio.create_task(observer.listen(port))
    try:
        yield observer
    finally:
        listening.cancel()
        await asyncio.wait([listening])


async def measure(fleet: Fleet, image: bytes) -> Found:
    total = fleet.gateways * fleet.devices
    async with observing(fleet.broker.port) as observer:

        def in_state(*states: str) -> int:
            return sum(status["state"] in states for status in observer.states.values())

        began = time.monotonic()
        fleet.start()
        await observer.until(lambda: in_state("idle") == total, "all devices heard from")
        ready_s = time.monotonic() - began
        before, reports, observed = await observer.next_traffic(), observer.reports, observer.observed_bytes
        cpu_s = cpu_seconds(fleet.broker.pid)
        published = time.monotonic()
        message_bytes = await asyncio.to_thread(fleet.publish, image)
        await observer.until(lambda: in_state("succeeded", "failed", "refused") == total, "all devices done")
        after = await observer.next_traffic()
        cpu_s = cpu_seconds(fleet.broker.pid) - cpu_s
        asked = time.monotonic()
        ran = await asyncio.to_thread(gatewayctl, "fleet", "status", "--config", str(fleet.config), "--json")
        done = {name: at for (name, state), at in observer.reached.items() if state == "succeeded"}
        return Found(
            gateways=fleet.gateways,
            devices=total,
            image_bytes=len(image),
            message_bytes=message_bytes,
            ready_s=ready_s,
            succeeded_s=sorted(at - published for at in done.values()),
            failed={
                name: f"{status['code']}: {status['reason']}"
                for name, status in observer.states.items()
                if status["state"] != "succeeded" or status["installed_version"] != VERSION
            },
            more_attempts=sum((status["attempt"] or 0) > 1 for status in observer.states.values()),
            reports=observer.reports - reports,
            traffic_bytes={name: after[name] - before[name] for name in after},
            observed_bytes=observer.observed_bytes - observed,
            broker_cpu_s=cpu_s,
            broker_rss_mib=rss_mib(fleet.broker.pid),
            fleet_status_s=time.monotonic() - asked,
            fleet_status=FleetStatus.model_validate_json(ran.out).model_dump(),
            troubles=fleet.troubles(),
        )


def misses(found: Found) -> Iterator[str]:
    """Yield what should not be."""
    for name, why in found.failed.items():
        yield f"{name}: {why}"
    if len(found.succeeded_s) != found.devices:
        yield f"{len(found.succeeded_s)} of {found.devices} devices succeeded"
    seen = found.fleet_status["gateways"]
    online = sum(gateway["status"] == "online" for gateway in seen)
    devices = sum(len(gateway["devices"]) for gateway in seen)
    if (online, devices) != (found.gateways, found.devices) or not found.fleet_status["ok"]:
        yield f"fleet status tells of {len(seen)} gateways, {online} online, with {devices} devices"
    yield from found.troubles[:10]


def report(found: Found) -> str:
    """Return the figures as a table."""
    at, kib, per_gateway = found.succeeded_s, 1024, found.traffic_bytes["in"] / found.gateways / 1024
    out = found.traffic_bytes["out"] - found.observed_bytes
    rows = {
        "gateways, devices": f"{found.gateways}, {found.devices}",
        "image, message (bytes)": f"{found.image_bytes}, {found.message_bytes}",
        "from nothing to every device heard from": f"{found.ready_s:.0f} s",
        "succeeded after: first, median, last": f"{at[0]:.1f}, {statistics.median(at):.1f}, {at[-1]:.1f} s",
        "failed; with more than one attempt": f"{len(found.failed)}; {found.more_attempts}",
        "reports of devices": f"{found.reports}, {found.reports / found.devices:.1f} for each",
        "to the broker": f"{found.traffic_bytes['in'] / kib:.0f} KiB, {per_gateway:.1f} from each gateway",
        "from the broker to gateways": f"{out / kib:.0f} KiB, {out / kib / found.gateways:.1f} to each",
        "the broker: processor, memory": f"{found.broker_cpu_s:.2f} s, {found.broker_rss_mib:.1f} MiB",
        "`gatewayctl fleet status`": f"{found.fleet_status_s:.1f} s",
    }
    return "| | |\n|---|--:|\n" + "\n".join(f"| {what} | {figure} |" for what, figure in rows.items())


@click.command()
@click.option("--gateways", default=200, show_default=True)
@click.option("--devices", default=10, show_default=True, help="Behind each gateway.")
@click.option("--size", default=16_384, show_default=True, help="Image bytes.")
@click.option("--processes", default=4, show_default=True, help="That share the gateways.")
def main(gateways: int, devices: int, size: int, processes: int) -> None:
    """Measure, print, judge."""
    with (
        tempfile.TemporaryDirectory(prefix="gatewayd-fleet-") as folder,
        Fleet(Path(folder), gateways, devices, processes) as fleet,
    ):
        found = asyncio.run(measure(fleet, random.Random(6).randbytes(size)))
    click.echo(report(found))
    missed = list(misses(found))
    for miss in missed:
        click.echo(f"missed: {miss}", err=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
