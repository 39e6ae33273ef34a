"""Console framing: SMP in lines of text, on a UART that also carries the device's log.

A packet is `length u16 | frame | CRC-16/XMODEM`, where the length counts frame and CRC. Its lines hold at
most 124 characters of base64 behind two marker bytes: 06 09 begins a packet, 04 14 continues it. Each line is
decoded by itself, as servers do. Everything else is log text, also in front of a marker on the same line and
between the lines of a packet.
"""

import binascii
from dataclasses import dataclass

from gatewayd.protocol.smp.frames import HEADER_SIZE, MAX_PAYLOAD

FIRST, NEXT = b"\x06\x09", b"\x04\x14"
LINE_CHARACTERS = 124  # 127 with marker and line feed: what the servers' line buffers take
LENGTH_SIZE = CRC_SIZE = 2
MAX_PACKET = LENGTH_SIZE + HEADER_SIZE + MAX_PAYLOAD + CRC_SIZE
# Servers of Zephyr can be built for lines of 512 characters; longer ones are cut, and read as text.
MAX_LINE = 1024


@dataclass(frozen=True, slots=True)
class NoFrame:
    """A run of bytes that is no frame: log text, or a damaged line (`is_damaged`)."""

    run: bytes
    is_damaged: bool = False


def encode_console(frame: bytes) -> bytes:
    """Return the lines that carry a frame."""
    crc = binascii.crc_hqx(frame, 0)
    length = len(frame) + CRC_SIZE
    packet = length.to_bytes(LENGTH_SIZE, "big") + frame + crc.to_bytes(CRC_SIZE, "big")
    text = binascii.b2a_base64(packet, newline=False)
    lines = [text[at : at + LINE_CHARACTERS] for at in range(0, len(text), LINE_CHARACTERS)]
    return b"".join((NEXT if at else FIRST) + line + b"\n" for at, line in enumerate(lines))


def console_size(frame_size: int) -> int:
    """Return how many bytes on the wire a frame takes."""
    characters = (frame_size + LENGTH_SIZE + CRC_SIZE + 2) // 3 * 4
    return characters + -(-characters // LINE_CHARACTERS) * (len(FIRST) + 1)


def frame_room(buffer_size: int) -> int:
    """Return the longest frame for a server's buffer, which holds length and CRC, too."""
    return buffer_size - LENGTH_SIZE - CRC_SIZE


class ConsoleDeframer:
    """Finds frames in a stream; keeps at most one line and one packet."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._packet: bytearray | None = None

    @property
    def unfinished(self) -> bytes:
        """The line that has not ended yet."""
        return bytes(self._line)

    @property
    def kept(self) -> int:
        """How many bytes are held."""
        return len(self._line) + len(self._packet or b"")

    def feed(self, data: bytes) -> list[bytes | NoFrame]:
        """Return frames, and what is none, in the order of their ends."""
        found: list[bytes | NoFrame] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._add(piece, found)
            found += self._read_line()
        self._add(rest, found)
        return found

    def _add(self, piece: bytes, found: list[bytes | NoFrame]) -> None:
        for at in range(0, len(piece), MAX_LINE):
            self._line += piece[at : at + MAX_LINE]
            if len(self._line) > MAX_LINE:
                found += self._read_line()

    def _read_line(self) -> list[bytes | NoFrame]:
        line = bytes(self._line)
        self._line.clear()
        at, is_first = _marker(line)
        if at < 0:
            return [NoFrame(line)] if line.strip() else []
        found: list[bytes | NoFrame] = [NoFrame(line[:at])] if line[:at].strip() else []
        found += self._take(line[at + len(FIRST) :].rstrip(b"\r"), is_first=is_first)
        return found

    def _take(self, text: bytes, *, is_first: bool) -> list[bytes | NoFrame]:
        if not is_first and self._packet is None:
            return [NoFrame(text, is_damaged=True)]
        lost = [NoFrame(bytes(self._packet), is_damaged=True)] if is_first and self._packet else []
        try:
            content = binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            self._packet = None
            return [*lost, NoFrame(text, is_damaged=True)]
        packet = bytearray(content) if is_first or self._packet is None else self._packet + content
        ended = _ended(packet)
        self._packet = packet if ended is None else None
        return [*lost, *([] if ended is None else [ended])]


def _marker(line: bytes) -> tuple[int, bool]:
    """Return where the last marker stands (-1: nowhere), and whether it begins a packet."""
    first, following = line.rfind(FIRST), line.rfind(NEXT)
    return max(first, following), first > following


def _ended(packet: bytearray) -> bytes | NoFrame | None:
    """Return the frame of a whole packet; None while bytes are missing."""
    if len(packet) < LENGTH_SIZE:
        return None
    size = LENGTH_SIZE + int.from_bytes(packet[:LENGTH_SIZE], "big")
    if len(packet) < size <= MAX_PACKET:
        return None
    frame, crc = bytes(packet[LENGTH_SIZE : size - CRC_SIZE]), packet[size - CRC_SIZE : size]
    if len(packet) != size or not frame or binascii.crc_hqx(frame, 0) != int.from_bytes(crc, "big"):
        return NoFrame(bytes(packet), is_damaged=True)
    return frame
