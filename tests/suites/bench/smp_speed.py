"""SMP side by side: gatewayd's session and smpclient, to the same server over the same paced line.

Both upload the same image, in turn, each to a server that has just started. The figure is image bytes a
second, from the first request to the answer to the last; the ratio is that of the medians.
"""

import asyncio
import hashlib
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from gatewayd.delivery.pump import Pump
from gatewayd.link.uart import UartLink
from gatewayd.protocol.session import Failed, Image, Outcome
from gatewayd.protocol.smp.gateway import SmpGateway
from suites.bench.section import Scale, Section, markdown
from suites.bench.smp_peer import CACHE
from suites.bench.smp_server import Absent, fetch, find, require_programs, running, serve, verified
from suites.bench.transfer import BITS_PER_BYTE, until_there

RATE = 11_520


class Line(NamedTuple):
    """What is measured, and the least ratio to smpclient that is the goal."""

    buffer_size: int
    latency_ms: int
    least_ratio: float


LINES = (Line(1024, 5, 1.15), Line(1024, 20, 1.35), Line(400, 20, 1.8))
Uploader = Callable[[Path, bytes], Awaitable[float]]


async def run(scale: Scale) -> list[dict[str, Any]] | dict[str, str]:
    """Measure both, or say why that is not possible."""
    try:
        require_programs()
        from suites.bench.smp_client import upload as peer  # noqa: PLC0415 - a guest, and may be absent

        images = fetch(CACHE)
        return [await _row(images, line, scale.runs, peer) for line in LINES]
    except (Absent, ImportError) as why:
        return {"absent": str(why)}


async def _row(images: Path, line: Line, runs: int, peer: Uploader) -> dict[str, Any]:
    image = another_version(verified(images, find(images, line.buffer_size)[1]))
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(await _measure(images, line, image, upload))
        theirs.append(await _measure(images, line, image, peer))
    own, other = statistics.median(ours), statistics.median(theirs)
    return {
        "buffer": line.buffer_size,
        "rate": RATE,
        "latency_ms": line.latency_ms,
        "gatewayd": round(own),
        "smpclient": round(other),
        "of_line": round(own / RATE, 4),
        "ratio": round(own / other, 3),
        "goal": line.least_ratio,
    }


async def _measure(images: Path, line: Line, image: bytes, uploader: Uploader) -> float:
    async with serve(images, line.buffer_size) as server, _relayed(server, line.latency_ms) as port:
        return len(image) / await uploader(port, image)


async def upload(port: Path, image: bytes) -> float:
    """Upload with gatewayd's session; returns the seconds it took. Raises what failed."""
    clock = asyncio.get_running_loop().time
    session = SmpGateway(baud=RATE * BITS_PER_BYTE, boot_s=1)
    link = UartLink(str(port), baud=RATE * BITS_PER_BYTE)
    async with Pump(link, session, clock=clock, on_notice=lambda _event: None) as pump:
        session.identify(clock(), 30.0)
        _check(await pump.outcome())
        began = clock()
        session.transfer(Image(image, hashlib.sha256(image).digest(), "9.9.9"), clock())
        _check(await pump.outcome())
        return clock() - began


def another_version(content: bytes) -> bytes:
    """Return the image with another version in its header and the hash that goes with it."""
    image = bytearray(content)
    image[20:24] = bytes((9, 9, 9, 0))
    end = int.from_bytes(image[8:10], "little") + int.from_bytes(image[12:16], "little")
    end += int.from_bytes(image[10:12], "little")
    at = image.index(b"\x10\x00\x20\x00", end)  # the TLV of a SHA-256
    image[at + 4 : at + 36] = hashlib.sha256(image[:end]).digest()
    return bytes(image)


def _check(outcome: Outcome) -> None:
    if isinstance(outcome, Failed):
        raise outcome.error


@asynccontextmanager
async def _relayed(server: Path, latency_ms: int) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gatewayd-peer-") as folder:
        port = Path(folder) / "port"
        options = {"--port": port, "--server": server, "--rate": RATE, "--latency-ms": latency_ms}
        words = [word for option in options.items() for word in option]
        words += ["--baud", RATE * BITS_PER_BYTE]
        async with running(sys.executable, "-m", "suites.bench.paced_relay", *words):
            await until_there(port)
            yield port


def table(rows: list[dict[str, Any]] | dict[str, str]) -> str:
    """Show it, for people."""
    if isinstance(rows, dict):
        return f"absent: {rows['absent']}"
    names = ("buffer", "latency_ms", "gatewayd", "smpclient")
    return markdown(
        "buffer:, latency ms:, gatewayd bytes/s:, smpclient bytes/s:, of the line:, ratio:, goal:",
        (
            [one[name] for name in names] + [f"{one['of_line']:.1%}", one["ratio"], one["goal"]]
            for one in rows
        ),
    )


SECTION = Section("smp_uart", "SMP: gatewayd and smpclient to the same Zephyr server", run, table)
