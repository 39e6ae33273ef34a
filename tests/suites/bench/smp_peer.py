"""The peer: smpclient's upload to its own Zephyr server, over the line that RCP is measured over.

Efficiency is counted as for RCP: image bytes / (seconds of the upload x rate). A rate of 0 is a line without
pacing or latency: what the emulated server itself can do, which limits it on a fast line.
"""

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

from suites.bench.section import Scale, Section, figures, markdown, spread
from suites.bench.smp_server import Absent, fetch, find, require_programs, running, serve, verified
from suites.bench.transfer import BITS_PER_BYTE, FAST, SLOW, until_there

CACHE = Path("build/peer")
LATENCY_MS = 5
BUFFER_SIZES = (1024, 2048)
UNPACED = 0


async def run(scale: Scale) -> list[dict[str, Any]] | dict[str, str]:
    """Measure the peer, or say why it is absent."""
    try:
        require_programs()
        images = fetch(CACHE)
        rows = []
        for buffer_size, rate in product(BUFFER_SIZES, (UNPACED, SLOW, FAST)):
            found = [await measure(images, buffer_size, rate) for _ in range(scale.runs)]
            rows.append(row(buffer_size, rate, found))
    except Absent as why:
        return {"absent": str(why)}
    return rows


async def measure(images: Path, buffer_size: int, rate: int) -> float | None:
    """Return the image bytes per second of one upload to a server that has just started.

    None when the server fell silent: smpclient does not ask again. Raises Absent.
    """
    try:
        from suites.bench.smp_client import upload  # noqa: PLC0415 - smpclient is a guest, and may be absent
    except ImportError as error:
        raise Absent(f"smpclient is not installed ({error})") from error
    image = verified(images, find(images, buffer_size)[1])
    async with serve(images, buffer_size) as server, _relayed(server, rate) as port:
        try:
            return len(image) / await upload(port, image)
        except TimeoutError:
            return None


@asynccontextmanager
async def _relayed(server: Path, rate: int) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gatewayd-peer-") as folder:
        port = Path(folder) / "port"
        options = {
            "--port": port,
            "--server": server,
            "--rate": rate,
            "--latency-ms": LATENCY_MS if rate else 0,
            "--baud": (rate or FAST) * BITS_PER_BYTE,
        }
        words = [word for option in options.items() for word in option]
        async with running(sys.executable, "-m", "suites.bench.paced_relay", *words):
            await until_there(port)
            yield port


def row(buffer_size: int, rate: int, runs: list[float | None]) -> dict[str, Any]:
    """Return what build/bench.json holds of one buffer size and rate; no speed when every upload failed."""
    speeds = [speed for speed in runs if speed is not None]
    about: dict[str, Any] = {"buffer": buffer_size, "rate": rate, "latency_ms": LATENCY_MS if rate else 0}
    about["failed_runs"] = len(runs) - len(speeds)
    if not speeds:
        return about
    about |= spread("bytes_per_s", speeds, 0)
    return about | ({"efficiency": round(about["bytes_per_s"] / rate, 4)} if rate else {})


def table(rows: list[dict[str, Any]] | dict[str, str]) -> str:
    """Show it, for people."""
    if isinstance(rows, dict):
        return f"absent: {rows['absent']}"
    return markdown(
        "buffer:, bytes/s, latency ms:, failed uploads:, efficiency:, image bytes/s:, lowest:, highest:",
        (
            [one["buffer"], one["rate"] or "unpaced", one["latency_ms"], one["failed_runs"]]
            + [f"{one['efficiency']:.1%}" if "efficiency" in one else ""]
            + (figures(one, "bytes_per_s", 0) if "bytes_per_s" in one else [""] * 3)
            for one in rows
        ),
    )


SECTION = Section("smp_peer", "The peer: smpclient to its Zephyr server under QEMU", run, table)
