"""SMP by Bluetooth side by side: gatewayd's link and session, and smpclient through bleak, on the same radio.

The radio is bumble's, with so many packets in each connection event; the server is the model that answers
as Zephyr's does, with an nRF52's flash. All of it runs in virtual time: the figures are what each client
makes of the airtime, the same at each run, on any machine. Only hardware can show what bluetoothd, kernel and
controller add, to both alike. Processor time is real, of the client and of all that it talks to, for a MiB.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, NamedTuple

from lab.bumble_radio import Air, BumbleBackend
from lab.jobs import VirtualLoop
from lab.operations import identify
from lab.rcp.radio import Airtime
from lab.smp.memory import firmware
from lab.smp.tag import SmpTag

from gatewayd.delivery.pump import Pump
from gatewayd.link.ble import BleLink
from gatewayd.link.radio import Radio
from gatewayd.link.radios import only
from gatewayd.link.target import Target
from gatewayd.protocol.session import Event, Image, Progress
from gatewayd.protocol.smp.gateway import SmpGateway
from gatewayd.protocol.smp.kind import GATT
from gatewayd.protocol.smp.wire import Framing
from gatewayd.simulator.smp.server import ServerProfile
from suites.bench.section import Scale, Section, markdown

ADDRESS = "C0:FF:EE:00:00:01"
INTERVAL_MS = 30
PACKETS = 6
ATT_OVERHEAD = 3  # of each packet's MTU
LEAST_RATIO = 1.5
# An nRF52 writes a word in 41 us, and erases a page of 4 KiB in 85 ms.
FLASH_S_PER_BYTE = 41e-6 / 4 + 85e-3 / 4096
IMAGE_BYTES = 100_000
QUICK_BYTES = 20_000


class Cell(NamedTuple):
    """One line of the table: the device's MTU and the size of its buffers."""

    mtu: int
    buffer_size: int


CELLS = (Cell(247, 384), Cell(247, 1024), Cell(247, 2475), Cell(23, 384))
Uploader = Callable[[BumbleBackend, str, bytes], Awaitable[float]]


async def upload(adapter: BumbleBackend, address: str, content: bytes) -> float:
    """Upload as the daemon does; returns the seconds from the first request to the answer to the last."""
    loop = asyncio.get_running_loop()
    ended = 0.0

    def note(event: Event) -> None:
        nonlocal ended
        if isinstance(event, Progress) and event.received == event.size:
            ended = loop.time()

    radio = Radio(backend=adapter.backend)
    session = SmpGateway(datagram=True, boot_s=1)
    link = BleLink(only(radio), Target(address=address), GATT, pair=False)
    async with Pump(link, session, clock=loop.time, on_notice=note) as pump:
        await identify(pump)
        began = loop.time()
        session.transfer(Image(content, sha256(content).digest(), "1.0.1"), began)
        await pump.outcome()
    await radio.close()
    return ended - began


class Measured(NamedTuple):
    """What one client did."""

    bytes_per_s: float
    cpu_s_per_mib: float


async def measure(cell: Cell, content: bytes, uploader: Uploader) -> Measured:
    """Let a client upload to a device that has just booted."""
    air = Air(Airtime(INTERVAL_MS / 1000, PACKETS))
    adapter = await air.backend()
    profile = ServerProfile(
        framing=Framing.RAW,
        buffer_size=cell.buffer_size,
        write_s=cell.buffer_size * FLASH_S_PER_BYTE,
    )
    tag = await SmpTag.at(air, "sensor", ADDRESS, profile=profile, mtu=cell.mtu)
    before = time.process_time()
    seconds = await uploader(adapter, ADDRESS, content)
    cpu_s = time.process_time() - before
    assert tag.server.slots.secondary == content
    await tag.close()
    await air.close()
    return Measured(len(content) / seconds, cpu_s * 2**20 / len(content))


def measure_in_virtual_time(cell: Cell, content: bytes, uploader: Uploader) -> Measured:
    """Return what `measure` does."""
    logging.getLogger("bumble").setLevel(logging.ERROR)  # it warns of packets that come after the end
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(measure(cell, content, uploader))


def row(cell: Cell, content: bytes, peer: Uploader) -> dict[str, Any]:
    """Return what build/bench.json holds of a cell."""
    ours, theirs = (measure_in_virtual_time(cell, content, one) for one in (upload, peer))
    airtime = (cell.mtu - ATT_OVERHEAD) * PACKETS / (INTERVAL_MS / 1000)
    return {
        "mtu": cell.mtu,
        "buffer": cell.buffer_size,
        "interval_ms": INTERVAL_MS,
        "gatewayd": round(ours.bytes_per_s),
        "smpclient": round(theirs.bytes_per_s),
        "of_airtime": round(ours.bytes_per_s / airtime, 4),
        "ratio": round(ours.bytes_per_s / theirs.bytes_per_s, 3),
        "goal": LEAST_RATIO,
        "gatewayd_cpu_s_per_mib": round(ours.cpu_s_per_mib, 2),
        "smpclient_cpu_s_per_mib": round(theirs.cpu_s_per_mib, 2),
    }


async def run(scale: Scale) -> list[dict[str, Any]] | dict[str, str]:
    """Measure each cell once, since another run gives the same; or say why that is not possible."""
    try:
        from suites.bench.smp_radio_client import upload as peer  # noqa: PLC0415 - a guest, and may be absent
    except ImportError as why:
        return {"absent": str(why)}
    content = firmware(1, QUICK_BYTES if scale.is_quick else IMAGE_BYTES)
    return [await asyncio.to_thread(row, cell, content, peer) for cell in CELLS]


def table(rows: list[dict[str, Any]] | dict[str, str]) -> str:
    """Show it, for people."""
    if isinstance(rows, dict):
        return f"absent: {rows['absent']}"
    names = ("mtu", "buffer", "interval_ms", "gatewayd", "smpclient")
    return markdown(
        "MTU:, buffer:, interval ms:, gatewayd bytes/s:, smpclient bytes/s:, of the airtime:, ratio:, goal:,"
        " gatewayd CPU s/MiB:, smpclient CPU s/MiB:",
        (
            [one[name] for name in names]
            + [f"{one['of_airtime']:.1%}", one["ratio"], one["goal"]]
            + [one["gatewayd_cpu_s_per_mib"], one["smpclient_cpu_s_per_mib"]]
            for one in rows
        ),
    )


SECTION = Section("smp_ble", "SMP by Bluetooth: gatewayd and smpclient to the same device", run, table)
