"""32 devices at once: 25 healthy C receivers on paced lines, 7 bad ones, one daemon, one message for all."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from gatewayd.back_off import back_off_s
from gatewayd.delivery.contact import PATIENCE_S
from gatewayd.delivery.retry import LONGEST_WAIT_S
from lab.farm import Farm, Gateway, VirtualDevice

RATE = 11_520
LATENCY_MS = 5
HEALTHY = 25
VERSION = "4.3.2"
SAMPLE_S = 0.25
# Opening and closing a port, a probe that is under way when the message comes, and a busy machine.
SPARE_S = PATIENCE_S + 5.0
SETBACKS = 8  # of an attempt at a device that restarts again and again


@dataclass(frozen=True)
class Bad:
    """A bad device: how it is made, and how it ends. `attempt_s` is the most that one attempt lasts."""

    receiver: str
    code: str
    attempts: int
    attempt_s: float
    flags: dict[str, object] = field(default_factory=dict)

    @property
    def limit_s(self) -> float:
        """Until it is given up, from the publication."""
        waits = sum(
            back_off_s(failures, 1.0, longest_s=LONGEST_WAIT_S) for failures in range(1, self.attempts)
        )
        return self.attempts * self.attempt_s + waits + SPARE_S


def bad_devices(attempts: int, every_s: float) -> dict[str, Bad]:
    """Return the seven. An erase block that takes longer than a boot lasts: nothing becomes durable."""
    restarting: dict[str, object] = {"every_s": every_s, "rate": RATE, "erase_block": 1 << 17, "quiet": True}
    return {
        "silent": Bad("silent", "no_answer", attempts, PATIENCE_S),
        "garbage": Bad("noise", "garbled", attempts, PATIENCE_S),
        "huge": Bad("claims", "bad_offset", attempts, PATIENCE_S),
        "backwards": Bad("backwards", "backwards", attempts, PATIENCE_S),
        "restarting": Bad(
            "restarts", "keeps_restarting", 1, SETBACKS * (every_s + 1.0) + PATIENCE_S, restarting
        ),
        "one-byte": Bad("dribbles", "incomplete", attempts, PATIENCE_S),
        "swapped": Bad("c", "wrong_app", 1, PATIENCE_S, {"app_id": "fan"}),
    }


@dataclass
class Found:
    """What came of it. Seconds of a healthy device: from its first DATA to its last byte acknowledged."""

    seconds: dict[str, float]
    repeated: dict[str, int]
    given_up_after_s: dict[str, float]
    statuses: dict[str, dict[str, Any]]
    images: dict[str, bytes | None]
    ports: dict[str, str]
    rss_mib: list[float]  # from when all healthy ones were under way to the end
    cpu_s: float
    elapsed_s: float
    lag: dict[str, Any]
    log_bytes: int


class Crowd:
    """The devices, on a farm."""

    def __init__(self, farm: Farm, bad: dict[str, Bad]) -> None:
        self.bad = bad
        self.gateway = farm.gateway
        self.healthy = {
            f"pump-{number}": farm.device(
                f"pump-{number}", slot_address=0x2000, rate=RATE, latency_ms=LATENCY_MS, quiet=True
            )
            for number in range(HEALTHY)
        }
        self.rogues = {name: farm.device(name, one.receiver, **one.flags) for name, one in bad.items()}
        self._rss_mib: list[float] = []

    async def run(self, image: bytes) -> Found:
        """Publish to all, wait until each has come to its end, stop the daemon."""
        gateway = self.gateway
        gateway.config["devices"] = [
            *(device.config() for device in self.healthy.values()),
            *(self._config(name, device) for name, device in self.rogues.items()),
        ]
        await gateway.until(self._has_all_ports, "the ports")
        gateway.start()
        await gateway.until(self._all_healthy("idle"), "all healthy ones heard from")
        gateway.publish(gateway.pack(image), VERSION)
        await gateway.until(self._all_healthy("transferring"), "all healthy ones under way")
        sampling = asyncio.create_task(self._sample())
        try:
            await gateway.until(self._all_healthy("succeeded"), "all healthy ones done")
            await gateway.until(self._all_bad_have_ended, "all bad ones given up")
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])
        cpu_s = cpu_seconds(_pid(gateway))
        assert gateway.stop() == 0
        return self._found(cpu_s)

    def _config(self, name: str, device: VirtualDevice) -> dict[str, Any]:
        return device.config(attempts=self.bad[name].attempts) | {"app_id": "pump"}

    def _has_all_ports(self) -> bool:
        return all(device.port.exists() for device in (*self.healthy.values(), *self.rogues.values()))

    def _all_healthy(self, state: str) -> Callable[[], bool]:
        # Statuses are merged on their way, so a state may be skipped: any later one will do.
        later = ("idle", "transferring", "staged", "activating", "succeeded")
        enough = later[later.index(state) :]
        return lambda: all(self.gateway.status.get(name, {}).get("state") in enough for name in self.healthy)

    def _all_bad_have_ended(self) -> bool:
        return all(self.gateway.status.get(name, {}).get("state") == "failed" for name in self.bad)

    async def _sample(self) -> None:
        while True:
            self._rss_mib.append(rss_mib(_pid(self.gateway)))
            await asyncio.sleep(SAMPLE_S)

    def _found(self, cpu_s: float) -> Found:
        gateway = self.gateway
        staged = {one["device"]: one for one in gateway.log_events("staged")}
        began = min(_time(one) for one in gateway.log_events("transfer"))
        failed = {one["device"]: _time(one) - began for one in gateway.log_events("job failed")}
        (lag,) = gateway.log_events("event loop")
        stopped = gateway.log_events("gatewayd has stopped")[-1]
        everyone = {**self.healthy, **self.rogues}
        return Found(
            seconds={name: staged[name]["seconds"] for name in self.healthy},
            repeated={name: staged[name]["repeated"] for name in self.healthy},
            given_up_after_s=failed,
            statuses={name: gateway.status[name] for name in everyone},
            images={name: device.active for name, device in everyone.items()},
            ports={name: str(device.port) for name, device in everyone.items()},
            rss_mib=self._rss_mib,
            cpu_s=cpu_s,
            elapsed_s=_time(stopped) - began,
            lag=lag,
            log_bytes=(gateway.folder / "gatewayd.log").stat().st_size,
        )


def rss_mib(pid: int) -> float:
    """Return a process's resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return kib / 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pid(gateway: Gateway) -> int:
    assert gateway.process is not None
    return gateway.process.pid


def _time(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()
