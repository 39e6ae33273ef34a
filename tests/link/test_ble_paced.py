"""The paced radio of tests and bench carries what it was told to, in virtual time."""

import asyncio
import math

import pytest
from lab.bumble_radio import Air
from lab.jobs import clock, timeless
from lab.rcp.radio import Airtime

from gatewayd.link.ble import BleLink
from gatewayd.link.radio import Radio
from gatewayd.link.radios import only
from gatewayd.link.target import Target
from gatewayd.protocol.rcp.kind import GATT

PACKETS = 120


@pytest.mark.parametrize(("interval_s", "packets"), [(0.015, 4), (0.03, 6), (0.05, 4)])
@timeless
async def test_a_paced_radio_carries_so_many_packets_in_an_interval(interval_s: float, packets: int) -> None:
    arrivals = await arrivals_of([PACKETS], Airtime(interval_s, packets))
    assert spread_of(arrivals, interval_s) == PACKETS // packets - 1


@timeless
async def test_all_connections_of_an_adapter_share_its_airtime() -> None:
    arrivals = await arrivals_of([PACKETS // 4] * 4, Airtime(0.03, 6))
    assert spread_of(arrivals, 0.03) == PACKETS // 6 - 1


@timeless
async def test_a_value_of_several_packets_takes_the_airtime_of_several() -> None:
    arrivals = await arrivals_of([PACKETS // 3], Airtime(0.03, 6), mtu=517, size=512)
    assert spread_of(arrivals, 0.03) == PACKETS // 6 - 1


async def arrivals_of(frames: list[int], airtime: Airtime, *, mtu: int = 247, size: int = 244) -> list[float]:
    """Send a number of frames to each of as many devices, all at once; return when they arrived."""
    air = Air(airtime)
    radio = Radio(max_connections=len(frames), backend=(await air.backend()).backend)
    arrivals: list[float] = []
    links = []
    for n in range(len(frames)):
        address = f"C0:FF:EE:00:02:{n:02X}"
        await air.peripheral(f"tag-{n}", address, mtu=mtu, on_frame=lambda _: arrivals.append(clock()))
        links.append(BleLink(only(radio), Target(address=address), GATT, pair=False))
        await links[-1].open()
    await asyncio.gather(*(send(link, count, size) for link, count in zip(links, frames, strict=True)))
    for link in links:
        await link.close()
    await radio.close()
    await air.close()
    return arrivals


async def send(link: BleLink, count: int, size: int) -> None:
    for _ in range(count - 1):
        await link.send(bytes(size))
    await link.send(bytes(size), confirmed=True)


def spread_of(arrivals: list[float], interval_s: float) -> int:
    """Return how many connection events there were from the first arrival to the last."""
    first, last = (math.floor(at / interval_s + 1e-6) for at in (min(arrivals), max(arrivals)))
    return last - first
