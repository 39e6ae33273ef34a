"""What the daemon takes of the machine: processor time per MiB, and memory with few and with many devices.

Both are the daemon's process alone, with everything real around it: mosquitto, ptys, C receivers. Processor
time is from the publication of a release to the confirmed device, so it has in it what happens once a release
(MQTT, spool, decryption, signature).
"""

import random
import statistics
from typing import Any

from suites.bench.bare_loop import bare_cpu_s
from suites.bench.daemons import (
    MIB,
    TOPIC,
    configure_absent,
    cpu_s,
    fresh_farm,
    memory_mib,
    message,
    start_with_devices,
    until_all,
)
from suites.bench.section import Scale, Section, figures, markdown, spread
from suites.bench.transfer import BITS_PER_BYTE, FAST

LATENCY_MS = 5
# Devices, and MiB of the image that all of them take at once.
UPDATES = ((1, 1), (8, 1), (32, 1), (8, 16))
CONFIGURED = 200
# Bytes per second (0: as fast as it goes) and MiB: long enough for ticks of 10 ms to be fine.
CPU_CELLS = ((0, 4), (FAST, 1))
DAEMON, BARE_LOOP = "gatewayd", "a bare asyncio loop"  # who sends; the second is a yardstick


async def _cpu_s_per_mib(rate: int, image_mib: int) -> float:
    flags = {"rate": rate, "latency_ms": LATENCY_MS, "baud": rate * BITS_PER_BYTE} if rate else {}
    async with fresh_farm() as whole:
        gateway = whole.gateway
        names = await start_with_devices(whole, 1, **flags)
        release = message(gateway, random.Random(1).randbytes(image_mib * MIB))
        before = cpu_s(gateway)
        await gateway.send(TOPIC, release)
        await until_all(gateway, names, "succeeded")
        return (cpu_s(gateway) - before) / image_mib


async def run_cpu(scale: Scale) -> list[dict[str, Any]]:
    """Measure the daemon's processor time with a paced line and one that takes all it gets."""
    rows = []
    for rate, image_mib in CPU_CELLS:
        found = [await _cpu_s_per_mib(rate, image_mib) for _ in range(scale.runs)]
        rows.append(_cpu_row(DAEMON, rate, image_mib, found))
    found = [await bare_cpu_s(FAST, LATENCY_MS, MIB) for _ in range(scale.runs)]
    return [*rows, _cpu_row(BARE_LOOP, FAST, 1, found)]


def _cpu_row(sender: str, rate: int, image_mib: int, found: list[float]) -> dict[str, Any]:
    return {"sender": sender, "rate": rate, "image_mib": image_mib} | spread("cpu_s_per_mib", found, 3)


def cpu_table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "sender, bytes/s, image MiB:, CPU seconds per MiB:, lowest:, highest:",
        (
            [row["sender"], row["rate"] or "unpaced", row["image_mib"], *figures(row, "cpu_s_per_mib", 2)]
            for row in rows
        ),
    )


async def _updating_mib(devices: int, image_mib: int) -> dict[str, float]:
    async with fresh_farm() as whole:
        names = await start_with_devices(whole, devices)
        idle = memory_mib(whole.gateway, "VmRSS")
        await whole.gateway.send(TOPIC, message(whole.gateway, random.Random(1).randbytes(image_mib * MIB)))
        await until_all(whole.gateway, names, "succeeded")
        return {"idle_mib": idle, "peak_mib": memory_mib(whole.gateway, "VmHWM")}


async def _configured_mib(devices: int) -> dict[str, float]:
    async with fresh_farm() as whole:
        names = configure_absent(whole, devices)
        whole.gateway.start()
        await whole.gateway.until(lambda: set(names) <= set(whole.gateway.status), "all reported")
        await whole.gateway.until(lambda: whole.gateway.gateway_status == "online", "online")
        fields = {"idle_mib": "VmRSS", "peak_mib": "VmHWM"}
        return {name: memory_mib(whole.gateway, field) for name, field in fields.items()}


async def run_memory(scale: Scale) -> list[dict[str, Any]]:
    """Measure the daemon's memory: all devices receive one image at once, or none is there."""
    rows: list[dict[str, Any]] = []
    for devices, image_mib in UPDATES:
        found = [await _updating_mib(devices, image_mib) for _ in range(scale.runs)]
        rows.append({"devices": devices, "doing": f"{image_mib} MiB to each at once"} | _medians(found))
    found = [await _configured_mib(CONFIGURED) for _ in range(scale.runs)]
    rows.append({"devices": CONFIGURED, "doing": "ports absent"} | _medians(found))
    return rows


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(one[key] for one in found), 1) for key in found[0]}


def memory_table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "devices:, doing, idle RSS MiB:, peak RSS MiB:",
        ([row["devices"], row["doing"], row["idle_mib"], row["peak_mib"]] for row in rows),
    )


CPU = Section("cpu_s_per_mib", "Processor time of the daemon", run_cpu, cpu_table)
MEMORY = Section("rss_mib", "Memory of the daemon", run_memory, memory_table)
