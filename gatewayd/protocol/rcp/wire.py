"""Convert frames to bytes and back for one link, with the device's console in between."""

from collections.abc import Iterator
from dataclasses import replace

from gatewayd.protocol.console import LEAST_TEXT, console_lines
from gatewayd.protocol.rcp.frames import FROM_GATEWAY, Data, Frame, FrameError, decode
from gatewayd.protocol.rcp.framing import Broken, BrokenFrame, StreamDeframer, encode_stream
from gatewayd.protocol.rcp.packets import MIN_PACKET, Assembler, ShortData, clamp, split
from gatewayd.protocol.rcp.tlv_frames import Info
from gatewayd.protocol.session import Console, Traffic
from gatewayd.protocol.silence import Heard

MAX_FRAME = 512  # the longest a gateway accepts; the longest INFO is shorter
SHORTEST_ANSWER = 75  # the shortest possible INFO, on a stream


class Wire:
    """A stream, or datagrams. Counts what passes in `traffic`.

    Attributes:
        packet: bytes that a datagram carries; None on a stream.
        has_short_data: whether the device takes DATA without CRC.
    """

    def __init__(self, traffic: Traffic, *, datagram: bool) -> None:
        self.packet = MIN_PACKET if datagram else None
        self.has_short_data = False
        self._traffic = traffic
        self._begin()

    def set_max_datagram(self, size_bytes: int, *, begins: bool) -> None:
        """Set how much a datagram link carries; `begins`: it was opened just now. Ignored on a stream."""
        if self.packet is not None:
            self.packet = clamp(size_bytes)
            if begins:
                self._begin()

    def listen(self) -> None:
        """Begin to wait for an answer: forget what was received before."""
        self._heard = Heard()

    def heard(self) -> Heard:
        """Return what was received since `listen`, including unfinished text."""
        found = replace(self._heard)
        unfinished = self._deframer.unfinished
        if b"\n" in unfinished:
            for line in console_lines(unfinished):
                found.add_line(line)
        return found

    def encode(self, frame: Frame) -> list[bytes]:
        """Return what to send: one piece on a stream, else packets."""
        if self.packet is None:
            wires = [encode_stream(frame.to_bytes())]
        elif self.has_short_data and isinstance(frame, Data) and frame.payload:
            wires = [ShortData(frame.session, frame.offset & 0xFFFF, frame.payload).to_bytes()]
        else:
            wires = split(frame.to_bytes(), self.packet)
        self._traffic.bytes_sent += sum(map(len, wires))
        return wires

    def decode(self, data: bytes) -> Iterator[Frame | FrameError | Console]:
        """Yield what `data` completes; a FrameError for a frame that is intact but invalid."""
        self._traffic.bytes_received += len(data)
        self._heard.size += len(data)
        for found in self._packet(data) if self.packet is not None else self._deframer.feed(data):
            if isinstance(found, BrokenFrame):
                yield from self._not_a_frame(found.run)
                continue
            self._heard.frames += 1
            self._heard.echoes += found[0] in FROM_GATEWAY
            try:
                frame = decode(found)
            except FrameError as error:
                yield error
                continue
            self._heard.late += isinstance(frame, Info)  # the right one ends the question
            yield frame

    def _begin(self) -> None:
        self._deframer = StreamDeframer(MAX_FRAME)
        self._assembler = Assembler(MAX_FRAME)
        self._heard = Heard()

    def _packet(self, data: bytes) -> list[bytes | BrokenFrame]:
        found = self._assembler.feed(data)
        if isinstance(found, ShortData):  # no device sends an image
            return [BrokenFrame(Broken.BAD_CRC, data)]
        return [] if found is None else [found]

    def _not_a_frame(self, run: bytes) -> Iterator[Console]:
        has_console = self.packet is None and len(run) >= LEAST_TEXT
        lines = console_lines(run) if has_console else []
        self._traffic.broken_frames += not lines
        self._heard.noise += not lines
        for line in lines:
            self._heard.add_line(line)
            yield Console(line)
