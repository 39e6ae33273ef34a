"""SMP side by side: gatewayd's session and smpclient, to the same server over the same paced line.

Both upload the same image, in turn, each to a server that has just started. The figure is image bytes a
second, from the first request to the answer to the last; the ratio is that of the medians. Processor time is
that of the client's process, for a MiB of image.
"""

import asyncio
import contextlib
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lab.smp.recipes import HEADER_SIZE, Recipe, make_image

from gatewayd.delivery.pump import Pump
from gatewayd.link.uart import UartLink
from gatewayd.protocol.session import Event, Failed, Image, Outcome, Progress
from gatewayd.protocol.smp.gateway import SmpGateway
from suites.bench.section import Scale, Section, markdown
from suites.bench.smp_peer import CACHE
from suites.bench.smp_server import Absent, fetch, find, require_programs, running, serve, verified
from suites.bench.transfer import BITS_PER_BYTE, until_there

RATE = 11_520
_PAYLOAD_SIZE = 65_536
_LEAST_RUNS = 7  # a busy machine disturbs single ones


class Line(NamedTuple):
    """What is measured, and the least ratio to smpclient that is the goal."""

    buffer_size: int
    latency_ms: int
    least_ratio: float


LINES = (Line(1024, 5, 1.15), Line(1024, 20, 1.35), Line(384, 20, 1.8))
Uploader = Callable[[Path, bytes], Awaitable[float]]


async def run(scale: Scale) -> list[dict[str, Any]] | dict[str, str]:
    """Measure both, or say why that is not possible."""
    try:
        require_programs()
        from suites.bench.smp_client import upload as peer  # noqa: PLC0415 - a guest, and may be absent

        images = fetch(CACHE)
        runs = scale.runs if scale.is_quick else max(scale.runs, _LEAST_RUNS)
        return [await _row(images, line, runs, peer) for line in LINES]
    except (Absent, ImportError) as why:
        return {"absent": str(why)}


async def _row(images: Path, line: Line, runs: int, peer: Uploader) -> dict[str, Any]:
    shipped = verified(images, find(images, line.buffer_size)[1])
    payload = shipped[HEADER_SIZE : HEADER_SIZE + _PAYLOAD_SIZE]
    image = make_image(Recipe((9, 9, 9, 0), payload))  # received and never started
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(await _measure(images, line, image, upload))
        with contextlib.suppress(TimeoutError):  # smpclient does not ask again; counted as failed
            theirs.append(await _measure(images, line, image, peer))
    if not theirs:
        raise Absent(f"each of smpclient's {runs} uploads with buffers of {line.buffer_size} bytes failed")
    own, other = (statistics.median(one.bytes_per_s for one in found) for found in (ours, theirs))
    own_cpu, other_cpu = (statistics.median(one.cpu_s_per_mib for one in found) for found in (ours, theirs))
    return {
        "buffer": line.buffer_size,
        "rate": RATE,
        "latency_ms": line.latency_ms,
        "gatewayd": round(own),
        "smpclient": round(other),
        "of_line": round(own / RATE, 4),
        "ratio": round(own / other, 3),
        "goal": line.least_ratio,
        "gatewayd_cpu_s_per_mib": round(own_cpu, 2),
        "smpclient_cpu_s_per_mib": round(other_cpu, 2),
        "smpclient_failed": runs - len(theirs),
    }


class _Run(NamedTuple):
    bytes_per_s: float
    cpu_s_per_mib: float


async def _measure(images: Path, line: Line, image: bytes, uploader: Uploader) -> _Run:
    async with serve(images, line.buffer_size) as server, _relayed(server, line.latency_ms) as port:
        before = time.process_time()
        seconds = await uploader(port, image)
        return _Run(len(image) / seconds, (time.process_time() - before) * 2**20 / len(image))


async def upload(port: Path, image: bytes) -> float:
    """Upload with gatewayd's session; returns the seconds it took. Raises what failed."""
    clock = asyncio.get_running_loop().time
    session = SmpGateway(baud=RATE * BITS_PER_BYTE, boot_s=1)
    link = UartLink(str(port), baud=RATE * BITS_PER_BYTE)
    received_at = 0.0

    def note(event: Event) -> None:
        nonlocal received_at
        if isinstance(event, Progress) and event.received == event.size:
            received_at = clock()

    async with Pump(link, session, clock=clock, on_notice=note) as pump:
        session.identify(clock(), 30.0)
        _check(await pump.outcome())
        began = clock()
        session.transfer(Image(image, hashlib.sha256(image).digest(), "9.9.9"), clock())
        _check(await pump.outcome())
        return received_at - began


def another_version(content: bytes, version: tuple[int, int, int] = (9, 9, 9)) -> bytes:
    """Return the image with another version in its header and the hash that goes with it."""
    image = bytearray(content)
    image[20:24] = bytes((*version, 0))
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
    costs = ("gatewayd_cpu_s_per_mib", "smpclient_cpu_s_per_mib", "smpclient_failed")
    return markdown(
        "buffer:, latency ms:, gatewayd bytes/s:, smpclient bytes/s:, of the line:, ratio:, goal:,"
        " gatewayd CPU s/MiB:, smpclient CPU s/MiB:, smpclient failed:",
        (
            [one[name] for name in names]
            + [f"{one['of_line']:.1%}", one["ratio"], one["goal"]]
            + [one[name] for name in costs]
            for one in rows
        ),
    )


SECTION = Section("smp_uart", "SMP: gatewayd and smpclient to the same Zephyr server", run, table)
