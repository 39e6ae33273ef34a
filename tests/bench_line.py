"""`make bench`: how much of a paced serial line RCP turns into image bytes; writes build/bench.json.

The device is a process on a pty whose line is paced, delayed and noisy (`--rate`, `--latency-ms`,
`--flip-rate`). The gateway's side is the daemon's own: UartLink, Conversation, RcpGateway. Efficiency = image
bytes / (seconds from the first DATA sent to the last byte acknowledged x rate); the median of the runs, each
with its own faults.

The cells of the slow line run side by side, as they hardly use the machine; those of the fast line do not.
"""

import asyncio
import json
import random
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import click
from e2e_lab import RECEIVERS, VirtualDevice

from gatewayd.jobs.conversation import Conversation
from gatewayd.link.uart import UartLink
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.session import Event, Identified, Image, Progress, Staged, TransferStarted

LATENCY_MS = 5
CHUNK = 1024
FLIP_RATES = (0, 1e-5)
BITS_PER_BYTE = 10
# Image bytes by bytes per second: some 21 and 11 s a run, so that three rounds stay below four minutes.
SLOW, FAST = 11520, 92160
IMAGE_SIZES = {SLOW: 240_000, FAST: 1_000_000}
PATIENCE_S = 5.0
PORT_POLL_S = 0.01


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    receiver: str
    rate: int
    flip_rate: float


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


async def measure(cell: Cell, size: int, seed: int) -> float:
    """Return the efficiency of one transfer, from an empty device to a verified image."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-bench-") as folder:
        device = VirtualDevice(
            Path(folder),
            "bench",
            cell.receiver,
            baud=cell.rate * BITS_PER_BYTE,
            rate=cell.rate,
            latency_ms=LATENCY_MS,
            flip_rate=cell.flip_rate,
            seed=seed,
            quiet=True,
        ).start()
        try:
            return await _transfer(device.port, cell.rate, random.Random(seed).randbytes(size))
        finally:
            device.stop()


async def _transfer(port: Path, rate: int, content: bytes) -> float:
    while not port.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it, and a look blocks nobody
        await asyncio.sleep(PORT_POLL_S)
    baud = rate * BITS_PER_BYTE
    watch = Stopwatch()
    session = RcpGateway("bench", base_baud=baud, chunk=CHUNK, random=random.Random(0))
    link = UartLink(str(port), baud=baud)
    clock = asyncio.get_running_loop().time
    async with Conversation(link, session, clock=clock, on_notice=watch.notice) as talk:
        session.identify(talk.now, PATIENCE_S)
        identified = await talk.outcome()
        assert isinstance(identified, Identified), identified
        session.transfer(Image(content, sha256(content).digest(), "4.3.2"), talk.now)
        staged = await talk.outcome()
        assert isinstance(staged, Staged), staged
    return len(content) / (watch.seconds * rate)


def document(results: dict[Cell, list[float]]) -> dict[str, list[dict[str, Any]]]:
    """Return what build/bench.json holds: the median of each cell's runs."""
    return {
        "rcp_uart": [
            {
                "receiver": cell.receiver,
                "rate": cell.rate,
                "latency_ms": LATENCY_MS,
                "flip_rate": cell.flip_rate,
                "chunk": CHUNK,
                "efficiency": round(statistics.median(runs), 4),
            }
            for cell, runs in results.items()
        ]
    }


async def _measure_all(cells: Iterable[Cell], runs: int) -> dict[Cell, list[float]]:
    results: dict[Cell, list[float]] = {cell: [] for cell in cells}
    slow = [cell for cell in results if cell.rate == SLOW]
    fast = [cell for cell in results if cell.rate != SLOW]
    for seed in range(1, runs + 1):
        found = await asyncio.gather(*(measure(cell, IMAGE_SIZES[cell.rate], seed) for cell in slow))
        for cell, efficiency in zip(slow, found, strict=True):
            results[cell].append(efficiency)
        for cell in fast:
            results[cell].append(await measure(cell, IMAGE_SIZES[cell.rate], seed))
        click.echo(f"run {seed} of {runs} done", err=True)
    return results


@click.command()
@click.option(
    "--runs", default=3, show_default=True, type=click.IntRange(1), help="Runs to take the median of."
)
@click.option(
    "-o", "--output", default="build/bench.json", show_default=True, type=click.Path(path_type=Path)
)
def main(runs: int, output: Path) -> None:
    """Measure RCP over a paced pty, print a table and write it as JSON."""
    cells = [Cell(*values) for values in product(RECEIVERS, IMAGE_SIZES, FLIP_RATES)]
    results = asyncio.run(_measure_all(cells, runs))
    click.echo(
        "| receiver | bytes/s | flips per byte | efficiency | lowest | highest |\n|---|--:|--:|--:|--:|--:|"
    )
    for cell, found in results.items():
        figures = " | ".join(f"{value:.1%}" for value in (statistics.median(found), min(found), max(found)))
        click.echo(f"| {cell.receiver} | {cell.rate} | {cell.flip_rate:g} | {figures} |")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document(results), indent=2) + "\n")
    click.echo(f"\n{output}", err=True)


if __name__ == "__main__":
    main()
