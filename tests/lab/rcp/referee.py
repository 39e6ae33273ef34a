"""Watches a gateway from outside: it may send no DATA that what has reached it does not allow."""

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.base import FrameType
from gatewayd.protocol.rcp.codes import FrameError
from gatewayd.protocol.rcp.tlv_frames import Info, Offer
from lab.rcp.radio import Reader


class Referee:
    """Watches what a gateway may send, by what has reached it."""

    def __init__(self, packet: int | None = None) -> None:
        self._reader = Reader(packet, 512)
        self.received = 0
        self._window = self._session = self._credit = 0

    def delivers(self, data: bytes) -> None:
        """Note what reaches the gateway."""
        for content in self._reader.contents(data):
            if not isinstance(content, bytes) or content[0] not in _TELLING:
                continue
            try:
                frame = frames.decode(content)
            except FrameError:
                continue
            if isinstance(frame, Info):
                self._window = frame.device.window
            elif isinstance(frame, frames.Accept) and frame.session == self._session:
                self._note(frame.offset, frame.credit)
            elif isinstance(frame, frames.Ack | frames.Nak) and frame.session == self._session:
                self._note(frame.received, frame.credit)

    def sends(self, frame: frames.Frame) -> None:
        """Check what the gateway sends."""
        if isinstance(frame, Offer) and frame.session != self._session:
            self._session, self.received, self._credit = frame.session, 0, 0
        if not isinstance(frame, frames.Data) or not frame.payload:
            return
        end = frame.offset + len(frame.payload)
        assert frame.session == self._session, f"DATA in session {frame.session}, offered: {self._session}"
        assert end <= self._credit, f"DATA up to {end}, credit is {self._credit}"
        assert end - self.received <= self._window, f"DATA up to {end}, received is {self.received}"

    def _note(self, received: int, credit: int) -> None:
        self.received = max(self.received, received)
        self._credit = max(self._credit, credit)


_TELLING = (FrameType.INFO, FrameType.ACCEPT, FrameType.ACK, FrameType.NAK)
