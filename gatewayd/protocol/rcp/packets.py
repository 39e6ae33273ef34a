"""Framing in datagrams (docs/protocol.md, section 11): one frame per packet, or fragments; short DATA.

A link that carries packets keeps their order and checks them. So an image's bytes are sent without CRC and
with half an offset, and a fragment needs only its number: one out of order ends the frame.
"""

from dataclasses import dataclass
from typing import Self

from gatewayd.protocol.rcp.framing import DATA_OVERHEAD, Broken, BrokenFrame, seal, unseal

MIN_PACKET = 20  # what an ATT MTU of 23 leaves, the least that Bluetooth has
MAX_PACKET = 512  # the longest value of an attribute; BlueZ silently drops longer ones
RING_OVERHEAD = 2  # what a receiver stores with each packet: its length
SHORT_OVERHEAD = 3  # type and session in one byte, half an offset
SHORT_SESSIONS = 0x7F  # what is left of a session number
_FRAGMENT = 0x60
_LAST = 0x10
_NUMBER = 0x0F
_SHORT = 0x80
MOST_FRAGMENTS = 16
LONGEST_ANSWER = MOST_FRAGMENTS * (MIN_PACKET - 1)  # an INFO, in the smallest packets
PACKETS_PER_S = 10.0  # assumed until it is measured: one per interval of 100 ms


@dataclass(frozen=True, slots=True)
class ShortData:
    """DATA without CRC and with only the low 16 bits of its offset."""

    session: int
    low: int
    payload: bytes

    def to_bytes(self) -> bytes:
        """Return the packet."""
        return bytes((_SHORT | self.session,)) + self.low.to_bytes(2, "little") + self.payload

    @classmethod
    def from_bytes(cls, packet: bytes) -> Self:
        """Read a packet of at least `SHORT_OVERHEAD` bytes."""
        low = int.from_bytes(packet[1:SHORT_OVERHEAD], "little")
        return cls(packet[0] & SHORT_SESSIONS, low, packet[SHORT_OVERHEAD:])

    def offset(self, expected: int) -> int:
        """Return the offset meant, modulo 2^32: the one nearest to the one expected next."""
        return (expected + (self.low - expected + 0x8000) % 0x10000 - 0x8000) % 2**32


def clamp(max_datagram: int) -> int:
    """Return how many bytes to put into one packet of a link that carries `max_datagram`."""
    return max(MIN_PACKET, min(max_datagram, MAX_PACKET))


def split(content: bytes, most: int) -> list[bytes]:
    """Return the packets of at most `most` bytes that carry a frame; none if it is too long for 16."""
    frame = seal(content)
    if len(frame) <= most:
        return [frame]
    pieces = [frame[at : at + most - 1] for at in range(0, len(frame), most - 1)]
    if len(pieces) > MOST_FRAGMENTS:
        return []
    heads = [_FRAGMENT | number for number in range(len(pieces))]
    heads[-1] |= _LAST
    return [bytes((head,)) + piece for head, piece in zip(heads, pieces, strict=True)]


class Assembler:
    """Turns packets into contents, short DATA and broken frames; holds at most one frame."""

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._begun: bytes | None = None
        self._next = 0

    def feed(self, packet: bytes) -> bytes | ShortData | BrokenFrame | None:
        """Take a packet; return what it is or completes, None for a fragment that more must follow."""
        if not packet or packet[0] & ~(_LAST | _NUMBER) != _FRAGMENT:
            self._begun = None  # its other fragments will not arrive
            return self._whole(packet)
        number = packet[0] & _NUMBER
        begun = self._begun if number else b""
        if begun is None or (number and number != self._next):
            self._begun = None
            return BrokenFrame(Broken.OUT_OF_ORDER, packet)
        frame = begun + packet[1:]
        if packet[0] & _LAST or len(frame) > self._max_frame:
            self._begun = None
            return unseal(frame, self._max_frame)
        self._begun, self._next = frame, number + 1
        return None

    def _whole(self, packet: bytes) -> bytes | ShortData | BrokenFrame:
        if not packet or not packet[0] & _SHORT:
            return unseal(packet, self._max_frame)
        if len(packet) < SHORT_OVERHEAD:
            return BrokenFrame(Broken.TOO_SHORT, packet)
        if len(packet) - SHORT_OVERHEAD > self._max_frame - DATA_OVERHEAD:
            return BrokenFrame(Broken.TOO_LONG, packet)
        return ShortData.from_bytes(packet)
