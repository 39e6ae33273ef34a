"""How much of a noisy line's rate becomes image, in virtual time: the same figures on every machine.

The gateway's session and a receiver are joined by a line of a given rate and latency that spoils bytes in
both directions. Between the gateway and the line is a buffer whose content cannot be taken back: an
adapter's, or a pty's, which has no end.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

from gatewayd.protocol.session import Image, Progress, Staged, TransferStarted
from lab.rcp.devices import DEVICES, PROFILE
from lab.rcp.joined import Lab, rcp_gateway
from lab.rcp.line import Faults, Wire

BITS_PER_BYTE = 10
PTY = math.inf


@dataclass(frozen=True)
class NoisyLine:
    """A line, and the device behind it. Bytes a second, bytes, seconds each way, flips a byte.

    Attributes:
        buffer: what may wait between the gateway and the line.
        halves: whether the rate halves when half of the image has arrived.
        timer_s: ACKs are handed over only at multiples of it, as an FTDI adapter does.
    """

    rate: int
    flip_rate: float = 0.0
    latency_s: float = 0.005
    window: int = 4096
    buffer: float = PTY
    halves: bool = False
    timer_s: float = 0.0
    receiver: str = "c"


@dataclass(frozen=True)
class Carried:
    """What became of a transfer: image bytes / what the line could carry, and what was sent twice."""

    efficiency: float
    repeated: int
    probes: int


def carry(line: NoisyLine, image: Image, seed: int = 0) -> Carried:
    """Transfer an image; raises AssertionError where the gateway breaks a rule (see joined.Lab)."""
    baud = line.rate * BITS_PER_BYTE
    profile = dataclasses.replace(
        PROFILE,
        slot_size=1 << 21,
        base_baud=baud,
        window=line.window,
        rx_ring=2 * line.window,
    )
    lab = Lab(
        DEVICES[line.receiver](profile),
        partial(rcp_gateway, base_baud=baud),
        baud=baud,
        latency_s=line.latency_s,
        buffer=line.buffer,
        timer_s=line.timer_s,
        faults=Faults(flip=line.flip_rate),
        seed=seed,
    )
    lab.identify()
    lab.session.transfer(image, lab.now)
    size, halved_at = len(image.content), math.inf
    if line.halves:
        lab.run_until(lambda: _received(lab) >= size // 2)
        halved_at = lab.now
        _halve(lab, line.rate / 2)
    assert isinstance(lab.run_until_outcome(Staged), Staged)
    begin = min(at for at, event in lab.events if isinstance(event, TransferStarted))
    end = max(at for at, event in lab.events if isinstance(event, Progress))
    could = (min(end, halved_at) - begin + max(0.0, end - halved_at) / 2) * line.rate
    traffic = lab.session.traffic
    return Carried(size / could, traffic.image_bytes_repeated, traffic.probes)


def _halve(lab: Lab, rate: float) -> None:
    for wire in (lab.to_device, lab.to_gateway):
        assert isinstance(wire, Wire)
        wire.set_rate(rate)


def _received(lab: Lab) -> int:
    event = lab.events[-1][1] if lab.events else None
    return event.received if isinstance(event, Progress) else 0
