"""How long it takes until something happens: from PUBLISH to the first DATA, and from the start to READY."""

import random
import statistics
import time
from typing import Any

import aiomqtt

from suites.bench.daemons import (
    MIB,
    PATCH,
    TOPIC,
    configure_absent,
    fresh_farm,
    logged_at,
    message,
    ready_after_s,
    start_with_devices,
)
from suites.bench.section import Scale, Section, figures, markdown, spread

IMAGE_SIZES_MIB = (1, 16)
DEVICE_COUNTS = (1, 200)
# What the daemon logs on the way, in that order; the first DATA leaves right after the last.
STEPS = {"release stored": "stored_s", "release verified": "verified_s", "transfer": "first_data_s"}


async def first_data_steps(image_mib: int) -> dict[str, float]:
    """Return the seconds from the client's publish call to each step."""
    async with fresh_farm() as whole:
        gateway = whole.gateway
        await start_with_devices(whole, 1, slot_size=(image_mib + 1) * MIB)
        release = message(gateway, random.Random(PATCH).randbytes(image_mib * MIB))
        async with aiomqtt.Client("127.0.0.1", gateway.broker.port) as client:
            began = time.time()
            await client.publish(TOPIC, release, qos=1, retain=True)
        await gateway.until(lambda: gateway.log_events("transfer"), "the first DATA")
        return {name: logged_at(gateway.log_events(event)[0]) - began for event, name in STEPS.items()}


async def run_first_data(scale: Scale) -> list[dict[str, Any]]:
    """Measure it with an idle device that was heard already, on a line that is not paced."""
    rows = []
    for image_mib in IMAGE_SIZES_MIB:
        found = [await first_data_steps(image_mib) for _ in range(scale.runs)]
        row: dict[str, Any] = {"image_mib": image_mib}
        for name in STEPS.values():
            row[name] = round(statistics.median(one[name] for one in found), 3)
        rows.append(row | spread("first_data_s", [one["first_data_s"] for one in found], 3))
    return rows


def first_data_table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "image MiB:, stored after s:, verified after s:, first DATA after s:, lowest:, highest:",
        (
            [row["image_mib"], row["stored_s"], row["verified_s"], *figures(row, "first_data_s", 3)]
            for row in rows
        ),
    )


async def _ready_s(devices: int, runs: int) -> list[float]:
    """Start again and again; the first time, which writes bytecode and the database, does not count."""
    async with fresh_farm() as whole:
        configure_absent(whole, devices)
        found = []
        for _ in range(runs + 1):
            found.append(await ready_after_s(whole.gateway))
            whole.gateway.stop(limit_s=10.0)
        return found[1:]


async def run_ready(scale: Scale) -> list[dict[str, Any]]:
    """Measure from the process's start to the log's "gatewayd is ready"."""
    return [
        {"devices": devices} | spread("start_to_ready_s", await _ready_s(devices, scale.runs), 3)
        for devices in DEVICE_COUNTS
    ]


def ready_table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "devices configured:, start to READY s:, lowest:, highest:",
        ([row["devices"], *figures(row, "start_to_ready_s", 2)] for row in rows),
    )


FIRST_DATA = Section(
    "publish_to_first_data_s", "From PUBLISH to the first DATA", run_first_data, first_data_table
)
READY = Section("start_to_ready_s", "From the start to READY", run_ready, ready_table)
