"""How much of a paced serial line RCP turns into image bytes.

The device is a process on a pty whose line is paced, delayed and noisy (`--rate`, `--latency-ms`,
`--flip-rate`). Efficiency = image bytes / (seconds from the first DATA sent to the last byte acknowledged x
rate); the median of the runs, each with its own faults.

The cells of the slow line run side by side, as they hardly use the machine; those of the fast line do not.
"""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import click

from gatewayd.protocol.rcp.framing import DATA_OVERHEAD
from gatewayd.protocol.session import Event, Progress, TransferStarted
from suites.bench.section import Scale, Section, markdown, percents, spread
from suites.bench.transfer import FAST, SLOW, bring, conversation, device_on_a_line

# Image bytes by bytes per second: some 21 and 8 s a run.
IMAGE_SIZES = {SLOW: 240_000, FAST: 700_000}
QUICK_SIZES = {SLOW: 24_000, FAST: 100_000}
LATENCIES_MS = (0, 5, 20)
FLIP_RATES = (0, 1e-5, 2e-5, 1e-4)
OTHER_CHUNKS = (256, 512, 2048, 4096)
LATENCY_MS = 5  # of what is not measured at each
# Wide enough for what is under way, as device/docs/line.md has it: 20 ms each way at the fast rate need
# 8 KiB.
WINDOW = 4096
WIDE_WINDOW = 8192


@dataclass(frozen=True)
class Cell:
    """One line of the table. The window is what the device offers, in bytes of payload."""

    receiver: str
    rate: int
    latency_ms: float
    flip_rate: float
    chunk: int = 1024
    window: int = WINDOW


class Stopwatch:
    """Runs from the first DATA to the acknowledgement of the last byte."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self.seconds = 0.0

    def notice(self, event: Event) -> None:
        """Take what the conversation tells. The first DATA leaves right after TransferStarted."""
        if isinstance(event, TransferStarted) and self._began is None:
            assert event.offset == 0, "the device had some of the image already"
            self._began = self._loop.time()
        elif isinstance(event, Progress) and event.received == event.size and not self.seconds:
            assert self._began is not None
            self.seconds = self._loop.time() - self._began


def cells() -> Iterator[Cell]:
    """Yield what is measured: the line's properties, chunks, the other receiver, and a window too small."""
    for rate, latency_ms, flip_rate in product(IMAGE_SIZES, LATENCIES_MS, FLIP_RATES):
        is_long = (rate, latency_ms) == (FAST, LATENCIES_MS[-1])
        yield Cell("c", rate, latency_ms, flip_rate, window=WIDE_WINDOW if is_long else WINDOW)
    for rate, chunk, flip_rate in product(IMAGE_SIZES, OTHER_CHUNKS, FLIP_RATES[:2]):
        # Four chunks, as with 1 KiB: with fewer the line waits for ACKs.
        yield Cell("c", rate, LATENCY_MS, flip_rate, chunk, max(WINDOW, 4 * chunk))
    for rate, flip_rate in product(IMAGE_SIZES, FLIP_RATES[:2]):
        yield Cell("python", rate, LATENCY_MS, flip_rate)
    for flip_rate in FLIP_RATES[:2]:
        yield Cell("c", FAST, LATENCIES_MS[-1], flip_rate)


async def measure(cell: Cell, size: int, seed: int) -> float:
    """Return the efficiency of one transfer, from an empty device to a verified image."""
    line = {"latency_ms": cell.latency_ms, "flip_rate": cell.flip_rate, "seed": seed}
    buffers = {
        "max_frame": cell.chunk + DATA_OVERHEAD,
        "window": cell.window,
        "rx_ring": 2 * cell.window,  # wire bytes: room for the framing, and for what is sent again
    }
    watch = Stopwatch()
    with device_on_a_line(cell.receiver, cell.rate, **line, **buffers) as device:
        async with conversation(
            device.port, cell.rate, chunk=cell.chunk, seed=seed, on_notice=watch.notice
        ) as (talk, _):
            await bring(talk, random.Random(seed).randbytes(size))
    return size / (watch.seconds * cell.rate)


def summary(results: dict[Cell, list[float]]) -> list[dict[str, Any]]:
    """Return what build/bench.json holds of it."""
    return [asdict(cell) | spread("efficiency", runs, 4) for cell, runs in results.items()]


async def run(scale: Scale) -> list[dict[str, Any]]:
    """Measure every cell."""
    sizes = QUICK_SIZES if scale.is_quick else IMAGE_SIZES
    results: dict[Cell, list[float]] = {cell: [] for cell in cells()}
    slow = [cell for cell in results if cell.rate == SLOW]
    fast = [cell for cell in results if cell.rate != SLOW]
    for seed in range(1, scale.runs + 1):
        found = await asyncio.gather(*(measure(cell, sizes[cell.rate], seed) for cell in slow))
        for cell, efficiency in zip(slow, found, strict=True):
            results[cell].append(efficiency)
        for cell in fast:
            results[cell].append(await measure(cell, sizes[cell.rate], seed))
        click.echo(f"  run {seed} of {scale.runs} done", err=True)
    return summary(results)


def table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "receiver, bytes/s:, latency ms:, flips per byte:, chunk:, window:, efficiency:, lowest:, highest:",
        (
            [
                *(row["receiver"], row["rate"], f"{row['latency_ms']:g}", f"{row['flip_rate']:g}"),
                *(row["chunk"], row["window"], *percents(row, "efficiency")),
            ]
            for row in rows
        ),
    )


SECTION = Section("rcp_uart", "Line efficiency of RCP over a UART", run, table)
