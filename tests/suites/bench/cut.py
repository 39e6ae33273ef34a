"""How many image bytes are sent again when a transfer is cut in the middle.

Two cuts: the device's process is killed, which is a power cut (what it had in RAM is gone), or the gateway
leaves in the middle, which is what its own restart does (the device keeps what it has). Counted is every
payload byte of DATA before and after the cut, less the image's size.
"""

import random
from itertools import product
from signal import SIGKILL
from typing import Any

from lab.farm import RECEIVERS, VirtualDevice

from gatewayd.errors import LinkLost
from gatewayd.protocol.session import Event, Progress
from suites.bench.section import Scale, Section, figures, markdown, spread
from suites.bench.transfer import FAST, bring, conversation, device_on_a_line

IMAGE_SIZE = 120_000
LATENCY_MS = 5
CUTS = ("device power", "gateway restart")
# Cuts a run: where within an erase block one falls decides how much is lost.
CUTS_A_RUN = 3


class _Cut(Exception):  # noqa: N818 - it is planned
    """The moment has come."""


async def _until_cut(device: VirtualDevice, cut: str, content: bytes, seed: int, at: int) -> int:
    """Transfer until `at` bytes have arrived, and cut; returns the payload bytes sent."""

    def notice(event: Event) -> None:
        if isinstance(event, Progress) and event.received >= at:
            if cut == CUTS[0]:
                device.stop(SIGKILL)
            raise _Cut

    async with conversation(device.port, FAST, seed=seed, on_notice=notice) as (talk, session):
        try:
            await bring(talk, content)
        except (_Cut, LinkLost):
            return session.traffic.image_bytes_sent
    raise AssertionError("the transfer ended before the cut")


async def repeated_bytes(receiver: str, cut: str, seed: int, size: int = IMAGE_SIZE) -> int:
    """Cut one transfer somewhere in its middle; returns the payload bytes sent beyond the image's size."""
    rng = random.Random(seed)
    content, at = rng.randbytes(size), rng.randrange(size // 4, size * 3 // 4)
    with device_on_a_line(receiver, FAST, latency_ms=LATENCY_MS, seed=seed) as device:
        sent = await _until_cut(device, cut, content, seed, at)
        if cut == CUTS[0]:
            device.start()
        async with conversation(device.port, FAST, seed=seed + 1, on_notice=_ignore) as (talk, session):
            await bring(talk, content)
            return sent + session.traffic.image_bytes_sent - size


def _ignore(_event: Event) -> None:
    pass


async def run(scale: Scale) -> list[dict[str, Any]]:
    """Cut transfers to both receivers in both ways."""
    rows = []
    for receiver, cut in product(RECEIVERS, CUTS):
        seeds = range(1, 1 + (1 if scale.is_quick else CUTS_A_RUN * scale.runs))
        found = [await repeated_bytes(receiver, cut, seed) for seed in seeds]
        rows.append(
            {"receiver": receiver, "cut": cut, "cuts": len(found)} | spread("image_bytes_repeated", found, 0)
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "receiver, cut, cuts:, image bytes sent again:, lowest:, highest:",
        (
            [row["receiver"], row["cut"], row["cuts"], *figures(row, "image_bytes_repeated", 0)]
            for row in rows
        ),
    )


SECTION = Section("resend_after_cut", "Sent again after a cut", run, table)
