"""How many devices one core serves at once, each on a line of its own at 11520 bytes/s.

The gateway's side of all transfers is this process, on one core: the daemon's serial link, pump and session.
The devices are another process on the other cores (`devices.py`), which they need.
"""

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.rcp.devices import c_device
from lab.tree import with_tests_on_path

from suites.bench.line import LATENCY_MS, Stopwatch
from suites.bench.section import Scale, Section, markdown
from suites.bench.transfer import SLOW, bring, conversation, until_there

DEVICES = (64, 128)
QUICK_DEVICES = (4,)
SIZE, QUICK_SIZE = 240_000, 24_000


async def measure(devices: int, size: int) -> dict[str, Any]:
    """Transfer an image to all of them at once; return efficiencies, and the processor time of the sender."""
    c_device()  # compiles the receiver the first time, which takes longer than ports are waited for
    with _devices_on_other_cores(devices) as folder:
        ports = [folder / f"port-{number}" for number in range(devices)]
        await until_there(ports[-1])
        began, cpu = time.monotonic(), time.process_time()
        found = await asyncio.gather(*(_efficiency(port, size) for port in ports))
        cpu, seconds = time.process_time() - cpu, time.monotonic() - began
    return {
        "devices": devices,
        "rate": SLOW,
        "efficiency": round(statistics.median(found), 4),
        "lowest": round(min(found), 4),
        "core": round(cpu / seconds, 3),
        "cpu_s_per_mib": round(cpu / (devices * size) * 2**20, 3),
    }


async def _efficiency(port: Path, size: int) -> float:
    watch = Stopwatch()
    async with conversation(port, SLOW, seed=1, on_notice=watch.notice) as (pump, _):
        await bring(pump, random.Random(1).randbytes(size))
    return size / (watch.seconds * SLOW)


@contextmanager
def _devices_on_other_cores(count: int) -> Iterator[Path]:
    """Run on one core, and the devices on the others, if there are any; gives the folder of their ports."""
    cores = os.sched_getaffinity(0)
    own = {min(cores)}
    with tempfile.TemporaryDirectory(prefix="gatewayd-bench-") as folder:
        words = [folder, str(count), str(SLOW), str(LATENCY_MS / 1000)]
        command = [sys.executable, "-m", "suites.bench.devices", *words]
        with subprocess.Popen(command, env=with_tests_on_path()) as process:
            os.sched_setaffinity(process.pid, cores - own or own)
            os.sched_setaffinity(0, own)
            try:
                yield Path(folder)
            finally:
                os.sched_setaffinity(0, cores)
                process.kill()


async def run(scale: Scale) -> list[dict[str, Any]]:
    """Measure with few and with many."""
    size = QUICK_SIZE if scale.is_quick else SIZE
    return [await measure(devices, size) for devices in (QUICK_DEVICES if scale.is_quick else DEVICES)]


def table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "devices:, bytes/s each:, efficiency:, lowest:, share of a core:, CPU seconds per MiB:",
        (
            [
                *(row["devices"], row["rate"], f"{row['efficiency']:.1%}", f"{row['lowest']:.1%}"),
                *(f"{row['core']:.0%}", f"{row['cpu_s_per_mib']:.2f}"),
            ]
            for row in rows
        ),
    )


SECTION = Section("rcp_many", "Line efficiency of RCP to many devices at once, from one core", run, table)
