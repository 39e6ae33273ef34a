"""A whole gateway to measure, as the end-to-end tests have it: mosquitto, the daemon, C receivers."""

import compileall
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from lab.farm import Farm, Gateway, farm
from lab.tree import ROOT

from gatewayd.ota.patch import PatchEncoding, encode_patch

MIB = 1024 * 1024
TOPIC = "/a/pump/u/4.3"
PATCH = 2
# 32 devices share two cores and 32 MiB; far beyond what that takes.
LIMIT_S = 300.0
_UTIME, _STIME = 11, 12  # of /proc/PID/stat, counted behind the command's name


@cache
def compile_sources() -> None:
    """Write the bytecode, as an installation does: to compile at each start takes time, and 7 MiB more."""
    compileall.compile_dir(ROOT / "gatewayd", quiet=2)


@asynccontextmanager
async def fresh_farm() -> AsyncIterator[Farm]:
    """Give a farm in a folder of its own. Messages of 32 MiB may come."""
    compile_sources()
    with tempfile.TemporaryDirectory(prefix="gatewayd-bench-") as folder:
        async with farm(Path(folder)) as whole:
            whole.gateway.config["mqtt"]["max_message_mib"] = 32
            yield whole


async def start_with_devices(whole: Farm, count: int, **flags: int) -> list[str]:
    """Start the daemon with `count` C receivers, until it has heard each of them; returns their names."""
    slot = {"slot_address": 0x2000}
    devices = [whole.device(f"pump-{number}", "c", **slot, **flags) for number in range(count)]
    link = {"baud": flags["baud"]} if "baud" in flags else {}
    whole.gateway.config["devices"] = [device.config(link=link) for device in devices]
    whole.gateway.start()
    names = [device.name for device in devices]
    await until_all(whole.gateway, names, "idle")
    return names


def configure_absent(whole: Farm, count: int) -> list[str]:
    """Configure `count` devices whose ports are not there; returns their names."""
    names = [f"absent-{number}" for number in range(count)]
    whole.gateway.config["devices"] = [
        {"name": name, "app_id": "pump", "version": "4.3.1", "payload": "advanced", "keys": "k"}
        | {"link": {"uart": str(whole.folder / name)}}
        for name in names
    ]
    return names


async def until_all(gateway: Gateway, names: list[str], state: str) -> None:
    """Wait until every device is reported in that state."""
    await gateway.until(
        lambda: all(gateway.status.get(name, {}).get("state") == state for name in names),
        f"{len(names)} devices {state}",
        LIMIT_S,
    )


def message(gateway: Gateway, image: bytes) -> bytes:
    """Return the release as it is published: patch, and a signed and encrypted container."""
    return encode_patch(PATCH, PatchEncoding.VARINT) + gateway.pack(image).read_bytes()


def memory_mib(gateway: Gateway, field: str) -> float:
    """Return VmRSS or VmHWM (the peak) of the daemon."""
    status = (_proc(gateway) / "status").read_text().splitlines()
    line = next(line for line in status if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def cpu_s(gateway: Gateway) -> float:
    """Return the processor time the daemon has taken, all threads, user and system."""
    fields = (_proc(gateway) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) / os.sysconf("SC_CLK_TCK")


def logged_at(entry: dict[str, Any]) -> float:
    """Return when the daemon wrote a line of its log, in seconds as `time.time` counts them."""
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


async def ready_after_s(gateway: Gateway) -> float:
    """Start the daemon; returns the seconds until it says that it is ready."""
    before = _times_ready(gateway)
    gateway.start()
    await gateway.until(lambda: _times_ready(gateway) > before, "READY")
    return logged_at(gateway.log_events("gatewayd is ready")[-1]) - gateway.started_at


def _times_ready(gateway: Gateway) -> int:
    has_log = (gateway.folder / "gatewayd.log").exists()
    return len(gateway.log_events("gatewayd is ready")) if has_log else 0


def _proc(gateway: Gateway) -> Path:
    assert gateway.process is not None
    return Path(f"/proc/{gateway.process.pid}")
