"""How much of a paced radio RCP turns into image bytes, with the daemon's own link on bleak's interface.

The radio is bumble's, and carries a limited number of packets in each connection event, which all connections
of an adapter share. It runs in virtual time: the figures are what the protocol makes of the airtime, the
same at each run, and no machine is too slow for them. Only hardware can show what bluetoothd, kernel and
controller add.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from lab.ble_device import PythonTag
from lab.bumble_radio import Air
from lab.jobs import VirtualLoop
from lab.operations import identify
from lab.rcp.radio import Airtime

from gatewayd.delivery.pump import Pump
from gatewayd.link.ble import BleLink
from gatewayd.link.radio import Radio
from gatewayd.link.radios import only
from gatewayd.link.target import Target
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.rcp.kind import GATT
from gatewayd.simulator.profile import DeviceProfile
from suites.bench.line import Stopwatch
from suites.bench.section import Scale, Section, markdown
from suites.bench.transfer import bring

MTUS = (23, 185, 247)
INTERVALS_MS = (15, 30, 50)
PACKETS = (4, 6)
ATT_OVERHEAD = 3  # of each packet's MTU
CROWD = 8
# Airtime for it, in seconds: enough for the beginning and the end not to matter.
TRANSFER_S = 20
QUICK_S = 4


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    mtu: int
    interval_ms: int
    packets: int
    devices: int = 1

    @property
    def bytes_per_s(self) -> float:
        """What the radio can carry, of all connections together."""
        return (self.mtu - ATT_OVERHEAD) * self.packets / (self.interval_ms / 1000)


def cells() -> Iterator[Cell]:
    """Yield what is measured."""
    for mtu, interval_ms, packets in product(MTUS, INTERVALS_MS, PACKETS):
        yield Cell(mtu, interval_ms, packets)
    yield Cell(247, 30, 6, CROWD)


async def transfer(radio: Radio, address: str, content: bytes) -> float:
    """Connect and bring an image; returns the seconds from the first DATA to the last ACK."""
    loop = asyncio.get_running_loop()
    watch = Stopwatch()
    session = RcpGateway("bench", datagram=True, random=random.Random(address))
    link = BleLink(only(radio), Target(address=address), GATT, pair=False)
    async with Pump(link, session, clock=loop.time, on_notice=watch.notice) as talk:
        await identify(talk)
        await bring(talk, content)
    return watch.seconds


async def measure(cell: Cell, airtime_s: float) -> float:
    """Return the efficiency: for one device of its transfer, for several of all, connecting included."""
    air = Air(Airtime(cell.interval_ms / 1000, cell.packets))
    radio = Radio(max_connections=cell.devices, backend=(await air.backend()).backend)
    content = random.Random(1).randbytes(round(cell.bytes_per_s * airtime_s / cell.devices))
    profile = DeviceProfile(app_id="tag", version="1.0.0", slot_size=1 << 24)
    addresses = [f"C0:FF:EE:00:00:{n:02X}" for n in range(cell.devices)]
    tags = [await PythonTag.at(air, f"tag {a}", a, profile, mtu=cell.mtu) for a in addresses]
    loop = asyncio.get_running_loop()
    began = loop.time()
    spans = await asyncio.gather(*(transfer(radio, address, content) for address in addresses))
    seconds = spans[0] if cell.devices == 1 else loop.time() - began
    for tag in tags:
        await tag.close()
    await radio.close()
    await air.close()
    return len(content) * cell.devices / (seconds * cell.bytes_per_s)


def measure_in_virtual_time(cell: Cell, airtime_s: float) -> float:
    """Return the efficiency of a cell."""
    logging.getLogger("bumble").setLevel(logging.ERROR)  # it warns of packets that come after the end
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(measure(cell, airtime_s))


async def run(scale: Scale) -> list[dict[str, Any]]:
    """Measure every cell, once: another run gives the same."""
    airtime_s = QUICK_S if scale.is_quick else TRANSFER_S
    return [
        asdict(cell)
        | {
            "radio_bytes_per_s": round(cell.bytes_per_s),
            "efficiency": round(await asyncio.to_thread(measure_in_virtual_time, cell, airtime_s), 4),
        }
        for cell in cells()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "devices, MTU:, interval ms:, packets per interval:, radio bytes/s:, efficiency:",
        (
            [
                *(row["devices"], row["mtu"], row["interval_ms"], row["packets"]),
                *(row["radio_bytes_per_s"], f"{row['efficiency']:.1%}"),
            ]
            for row in rows
        ),
    )


SECTION = Section("rcp_ble", "Share of a radio's airtime that RCP uses over Bluetooth LE", run, table)
