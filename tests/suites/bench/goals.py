"""The figures that miss their goal. Why they do is in docs/performance.md."""

import math
from collections.abc import Iterator
from typing import Any

# By chunk: framing leaves small ones no more.
CLEAN_LINE = {256: 0.945, 512: 0.97, 1024: 0.98, 2048: 0.985, 4096: 0.985}
# By MTU: fragments and headers are a larger share of small packets.
AIRTIME = {23: 0.84, 185: 0.98, 247: 0.985}
CROWD_AIRTIME = 1 / 1.2  # for several devices: connecting is part of it
# By bytes a second and flips a byte; of a line whose only fault that is.
NOISE = {
    11520: {0: 0.98, 2e-5: 0.92, 1e-4: 0.87, 1e-3: 0.60},
    92160: {0: 0.98, 2e-5: 0.91, 1e-4: 0.80, 1e-3: 0.35},
}
NOISE_LATENCY_S = 0.005
MANY = {64: 0.98, 128: 0.95}  # devices at once, from one core
CPU_S_PER_MIB = {92160: 0.25}  # of the daemon, by bytes a second
IDLE_MIB = 62
IDLE_DEVICES = 200
PEAK_MIB = 160  # 16 MiB for eight devices
# SD cards wear: the image once, and what the store notes beside it.
DISK_SHARE = 1.1
DISK_MARGIN_BYTES = 256 * 1024
_MIB = 1024 * 1024


def misses(document: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each."""
    for row in document.get("rcp_uart", []):
        if row["flip_rate"] == 0 and row["efficiency"] < CLEAN_LINE[row["chunk"]]:
            yield (
                f"{row['receiver']}, {row['rate']} bytes/s, {row['latency_ms']:g} ms, chunk {row['chunk']},"
                f" window {row['window']}: {row['efficiency']:.1%} of a clean line,"
                f" the goal is {CLEAN_LINE[row['chunk']]:.1%}"
            )
    yield from _noise_misses(document.get("rcp_noise", []))
    yield from _load_misses(document)
    yield from _smp_misses(document.get("smp_uart", []), "latency_ms", "ms")
    yield from _smp_misses(document.get("smp_ble", []), "mtu", "bytes of MTU by Bluetooth")
    for row in document.get("rcp_ble", []):
        goal = AIRTIME[row["mtu"]] if row["devices"] == 1 else CROWD_AIRTIME
        if row["efficiency"] < goal:
            yield (
                f"{row['devices']} devices, MTU {row['mtu']}, {row['packets']} packets in"
                f" {row['interval_ms']} ms: {row['efficiency']:.1%} of the airtime, the goal is {goal:.1%}"
            )
    for row in document.get("rss_mib", []):
        if row.get("peak_mib", 0) > PEAK_MIB:
            yield f"{row['peak_mib']} MiB at the most, {row['doing']}, the goal is {PEAK_MIB}"
        if row["devices"] == IDLE_DEVICES and row["idle_mib"] > IDLE_MIB:
            yield (
                f"{row['idle_mib']} MiB idle with {IDLE_DEVICES} devices configured, the goal is {IDLE_MIB}"
            )
    for row in document.get("disk_bytes_per_update", []):
        most = round(DISK_SHARE * row["image_mib"] * _MIB + DISK_MARGIN_BYTES)
        if row["disk_bytes"] > most:
            yield (
                f"{row['disk_bytes']:,} bytes written to the disk for an image of {row['image_mib']} MiB,"
                f" the goal is {most:,}"
            )


def _noise_misses(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        goal = NOISE[row["rate"]][row["flip_rate"]]
        is_only_noisy = row["latency_s"] == NOISE_LATENCY_S and not row["timer_s"]
        if is_only_noisy and row["efficiency"] < goal:
            yield (
                f"{row['rate']} bytes/s, {row['flip_rate']:g} flips a byte: {row['efficiency']:.1%} of a"
                f" noisy line, the goal is {goal:.0%}"
            )


def _load_misses(document: dict[str, Any]) -> Iterator[str]:
    for row in document.get("rcp_many", []):
        if row["efficiency"] < MANY[row["devices"]]:
            yield (
                f"{row['devices']} devices at once: {row['efficiency']:.1%} of their lines, the goal is"
                f" {MANY[row['devices']]:.0%}"
            )
    for row in document.get("cpu_s_per_mib", []):
        goal = CPU_S_PER_MIB.get(row["rate"], math.inf)
        if row["sender"] == "gatewayd" and row["cpu_s_per_mib"] > goal:
            yield (
                f"{row['cpu_s_per_mib']} s of processor time a MiB at {row['rate']} bytes/s, the goal is"
                f" {goal}"
            )


def _smp_misses(rows: Any, quantity: str, unit: str) -> Iterator[str]:
    if not isinstance(rows, list):  # its peer was absent
        return
    for row in rows:
        if row["ratio"] < row["goal"]:
            yield (
                f"SMP, buffer {row['buffer']}, {row[quantity]} {unit}: {row['ratio']} times smpclient's"
                f" speed, the goal is {row['goal']}"
            )
