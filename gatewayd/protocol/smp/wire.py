"""Convert frames to bytes and back for one link: console lines, a raw UART, or Bluetooth's packets."""

from collections.abc import Iterator
from enum import StrEnum

from gatewayd.protocol.console import LEAST_TEXT, console_lines
from gatewayd.protocol.session import Console, Traffic
from gatewayd.protocol.silence import Heard
from gatewayd.protocol.smp.console import ConsoleDeframer, NoFrame, console_size, encode_console, frame_room
from gatewayd.protocol.smp.errors import MalformedError
from gatewayd.protocol.smp.frames import Frame
from gatewayd.protocol.smp.plain import PlainDeframer

_WORTH_WHOLE = 0.9  # of a buffer: a packet that is nearly empty takes as much of the airtime as a full one
_LEAST_PACKET = 20  # what Bluetooth carries before a larger size is agreed
# Zephyr and MCUboot drop an unfinished request after 3 s without a byte, unless built otherwise.
_UNFINISHED_S = 3.5


class Framing(StrEnum):
    """How frames travel on a UART."""

    CONSOLE = "console"
    RAW = "raw"


class Wire:
    """See the module's text. Counts what passes in `traffic`.

    Attributes:
        packet: bytes that one datagram carries; None on a UART.
    """

    def __init__(self, traffic: Traffic, framing: Framing, *, datagram: bool) -> None:
        self.packet = _LEAST_PACKET if datagram else None
        self._framing = Framing.RAW if datagram else framing
        self._traffic = traffic
        self._deframer: ConsoleDeframer | PlainDeframer = self._new_deframer()
        self._heard = Heard()

    def set_max_datagram(self, size_bytes: int, *, begins: bool) -> None:
        """Set how much a datagram link carries; `begins`: it was opened just now. Ignored on a UART."""
        if self.packet is not None:
            self.packet = max(size_bytes, _LEAST_PACKET)
            if begins:
                self._deframer = self._new_deframer()

    def listen_again(self) -> None:
        """Forget what was received before: it does not answer the new question."""
        self._heard = Heard()

    @property
    def silence_s(self) -> float:
        """How long to be silent before a request that follows an unanswered one.

        On a raw UART nothing but a length tells where a request ends. A device that missed some of its bytes
        takes those of the next one in their place, and writes them to flash: only silence makes it forget.
        """
        return _UNFINISHED_S if self.is_unchecked else 0.0

    @property
    def is_unchecked(self) -> bool:
        """Whether nothing has a checksum: what is refused or unreadable may be the line's fault."""
        return self._framing is Framing.RAW and self.packet is None

    def drop_unfinished(self) -> None:
        """Drop an unfinished frame, whose rest will not arrive."""
        if isinstance(self._deframer, PlainDeframer):
            self._deframer.drop()

    @property
    def heard(self) -> Heard:
        """What was received since `listen_again`."""
        return self._heard

    def encode(self, frame: Frame) -> list[bytes]:
        """Return what to send: one piece on a UART, else packets."""
        content = frame.to_bytes()
        if self.packet is not None:
            wires = [content[at : at + self.packet] for at in range(0, len(content), self.packet)]
        else:
            wires = [encode_console(content) if self._framing is Framing.CONSOLE else content]
        self._traffic.bytes_sent += sum(map(len, wires))
        return wires

    def size(self, frame_size: int) -> int:
        """Return how many bytes a frame takes on the wire."""
        return console_size(frame_size) if self._framing is Framing.CONSOLE else frame_size

    def room(self, buffer_size: int) -> int:
        """Return the longest frame for a device's buffer; by radio in whole packets if that costs little."""
        if self._framing is Framing.CONSOLE:
            return frame_room(buffer_size)
        whole = buffer_size if self.packet is None else buffer_size - buffer_size % self.packet
        return whole if whole >= _WORTH_WHOLE * buffer_size else buffer_size

    def decode(self, data: bytes) -> Iterator[Frame | MalformedError | Console]:
        """Yield what `data` completes; an error for a frame that is complete but invalid."""
        self._traffic.bytes_received += len(data)
        self._heard.size += len(data)
        for found in self._deframer.feed(data):
            if isinstance(found, NoFrame):
                yield from self._not_a_frame(found)
                continue
            self._heard.frames += 1
            try:
                frame = Frame.from_bytes(found)
            except MalformedError as error:
                yield error
                continue
            self._heard.echoes += not frame.is_answer
            yield frame

    def _new_deframer(self) -> ConsoleDeframer | PlainDeframer:
        return ConsoleDeframer() if self._framing is Framing.CONSOLE else PlainDeframer()

    def _not_a_frame(self, found: NoFrame) -> Iterator[Console]:
        is_text = not found.is_damaged and len(found.run) >= LEAST_TEXT
        lines = console_lines(found.run) if is_text else []
        self._traffic.broken_frames += not lines
        self._heard.noise += not lines
        for line in lines:
            self._heard.add_line(line)
            yield Console(line)
