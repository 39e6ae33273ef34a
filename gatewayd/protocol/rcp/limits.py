"""What the device and the link allow of a transfer: how large chunks are, and how much may be in flight."""

from dataclasses import dataclass, replace

from gatewayd.protocol.pace import best_chunk
from gatewayd.protocol.rcp.framing import DATA_OVERHEAD, wire_size
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.rcp.packets import RING_OVERHEAD, SHORT_OVERHEAD

CHUNK_FLOOR = 128  # 92 % of framing ceiling; below it falls quickly
_WAITING = 2  # frames beyond what fills the line: with one, it is idle while the next is made
_MAX_IN_FLIGHT = 512  # frames; a device may claim any window
# Three intervals of 6 packets, and what is not acknowledged yet. Half an offset is not ambiguous within them.
_FRAMES_IN_FLIGHT = 24
_RADIO_WAITING = 18  # frames; an ACK comes for six, when the radio has its turn: with 12 some turns are empty


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device and the link take. Bytes of payload, but for `ring`.

    `overhead` is a chunk's on a datagram link; None on a stream. `floor_s`: the least wait for an ACK, if
    not the usual one. `largest`: of chunks, whatever a datagram carries. `waiting`: how many frames may be in
    flight beyond what fills the line.
    """

    chunk: int
    unit: int
    window: int
    ring: int
    overhead: int | None = None
    floor_s: float | None = None
    waiting: int = _WAITING
    largest: int = 0

    @classmethod
    def of(
        cls,
        info: RcpInfo,
        chunk: int,
        packet: int | None = None,
        floor_s: float | None = None,
        waiting: int | None = None,
    ) -> "Limits":
        """Return the flow for chunks of that many bytes on this device; in datagrams of `packet` bytes.

        `floor_s` and `waiting` are the link's own if not given.
        """
        most = min(chunk, info.max_frame - DATA_OVERHEAD, info.window)
        if packet is None:
            chunk = whole_units(most, info.write_unit)
            return cls(chunk, info.write_unit, info.window, info.rx_ring, None, floor_s, waiting or _WAITING)
        overhead = SHORT_OVERHEAD if info.can_short_data else DATA_OVERHEAD
        waiting = waiting or _RADIO_WAITING
        limits = cls(most, 1, info.window, info.rx_ring, overhead, floor_s, waiting, largest=most)
        return limits.of_packets(packet)

    def of_packets(self, packet: int) -> "Limits":
        """Return the limits where a datagram carries that many bytes."""
        return replace(self, chunk=min(self.largest, packet - (self.overhead or 0)))

    @property
    def frames(self) -> int:
        """How many may be in flight."""
        return _MAX_IN_FLIGHT if self.overhead is None else _FRAMES_IN_FLIGHT

    def best_chunk(self, loss_rate: float) -> int:
        """Return how large chunks should be where this share of bytes is spoilt."""
        best = best_chunk(self.wire(CHUNK_FLOOR) - CHUNK_FLOOR, loss_rate)
        if best >= self.chunk or self.overhead is not None:
            return self.chunk
        return min(self.chunk, whole_units(max(CHUNK_FLOOR, int(best)), self.unit))

    def wire(self, size: int) -> int:
        """Return how many wire bytes a chunk takes in the device's ring."""
        if self.overhead is None:
            return wire_size(size + DATA_OVERHEAD)
        return size + self.overhead + RING_OVERHEAD


def whole_units(size: int, unit: int) -> int:
    """Round down to whole write units; a size below one unit stays."""
    return size - size % unit or size
