"""How much of a noisy line RCP turns into image bytes, in virtual time: the daemon's session, the C receiver.

Both directions are spoilt. Nothing of it depends on the machine, so that a table before a change can be
compared with one after it; the line of ptys and processes is measured by `line.py`.
"""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from itertools import product
from typing import Any

from lab.rcp.joined import make_image
from lab.rcp.noisy_line import PTY, NoisyLine, carry

from suites.bench.section import Scale, Section, markdown, percents, spread
from suites.bench.transfer import FAST, SLOW

FLIP_RATES = (0, 2e-5, 1e-4, 1e-3)
ADAPTER_BYTES = 4096
FTDI_S = 0.016
MIB = 1024 * 1024
QUICK_SIZE = 64 * 1024
SEEDS = 11


def cells() -> list[NoisyLine]:
    """Return what is measured: noise at both rates, then what else can be wrong with a line."""
    plain = [NoisyLine(rate, flip_rate) for rate, flip_rate in product((SLOW, FAST), FLIP_RATES)]
    other = [
        change
        for line in (NoisyLine(FAST), NoisyLine(FAST, 1e-4))
        for change in (
            replace(line, buffer=ADAPTER_BYTES),
            replace(line, halves=True),
            replace(line, timer_s=FTDI_S),
            replace(line, latency_s=0.02),
            replace(line, latency_s=0.02, window=8192),
        )
    ]
    return plain + other


def measure(line: NoisyLine, size: int, seed: int) -> float:
    """Return the efficiency of one transfer."""
    return carry(line, make_image(size, seed), seed).efficiency


async def run(scale: Scale) -> list[dict[str, Any]]:
    """Measure every cell with a number of seeds; a clean line is the same with each."""
    size, most = (QUICK_SIZE, 1) if scale.is_quick else (MIB, SEEDS)
    loop, rows = asyncio.get_running_loop(), []
    with ProcessPoolExecutor() as processes:
        for line in cells():
            seeds = range(most if line.flip_rate else 1)
            runs = [loop.run_in_executor(processes, measure, line, size, seed) for seed in seeds]
            rows.append(_about(line) | spread("efficiency", await asyncio.gather(*runs), 4))
    return rows


def _about(line: NoisyLine) -> dict[str, Any]:
    return asdict(line) | {"buffer": None if line.buffer == PTY else line.buffer}  # JSON has no infinity


def table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "bytes/s:, latency ms:, flips per byte:, window:, and, efficiency:, lowest:, highest:",
        (
            [
                *(row["rate"], f"{row['latency_s'] * 1000:g}", f"{row['flip_rate']:g}", row["window"]),
                *(_what_else(row), *percents(row, "efficiency")),
            ]
            for row in rows
        ),
    )


def _what_else(row: dict[str, Any]) -> str:
    if row["halves"]:
        return "the rate halves in the middle"
    if row["timer_s"]:
        return f"ACKs come every {row['timer_s'] * 1000:g} ms"
    return "" if row["buffer"] is None else f"an adapter keeps {row['buffer']} bytes"


SECTION = Section("rcp_noise", "Line efficiency of RCP over a noisy line, in virtual time", run, table)
