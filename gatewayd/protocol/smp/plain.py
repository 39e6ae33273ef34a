"""Frames without framing: on a raw UART and over Bluetooth LE, where the header's length is all there is.

Bluetooth loses no bytes, and a frame begins with a notification. A raw UART does lose them, and prints text
while it boots: bytes that cannot begin an answer are passed over, and what has stood unfinished for too long
has to be dropped by the caller, since nothing else tells that its rest will not come.
"""

from gatewayd.protocol.smp.console import NoFrame
from gatewayd.protocol.smp.frames import HEADER, HEADER_SIZE, MAX_PAYLOAD, Op


def _first_bytes(*ops: Op) -> frozenset[int]:
    """Return how frames begin, in version 1 and 2 of the header."""
    return frozenset(version << 3 | op for version in (0, 1) for op in ops)


ANSWERS = _first_bytes(Op.READ_ANSWER, Op.WRITE_ANSWER)
REQUESTS = _first_bytes(Op.READ, Op.WRITE)
_MAX_RUN = 1024  # bytes of text given out as one run


class PlainDeframer:
    """Finds frames in a stream that begin with one of `first_bytes`; keeps at most one of them."""

    def __init__(self, first_bytes: frozenset[int] = ANSWERS) -> None:
        self._first_bytes = first_bytes
        self._data = bytearray()
        self._passed = bytearray()

    @property
    def unfinished(self) -> bytes:
        """What may still become a frame."""
        return bytes(self._passed + self._data)

    @property
    def kept(self) -> int:
        """How many bytes are held."""
        return len(self._data) + len(self._passed)

    def drop(self) -> None:
        """Forget what has begun: its rest will not come."""
        self._data.clear()
        self._passed.clear()

    def feed(self, data: bytes) -> list[bytes | NoFrame]:
        """Return answers, and what is none."""
        self._data += data
        found: list[bytes | NoFrame] = []
        while self._data:
            size = self._size()
            if size is None:
                break
            if size == 0:
                self._pass_over(found)
            elif len(self._data) < size:
                break
            else:
                self._end_run(found)
                found.append(bytes(self._data[:size]))
                del self._data[:size]
        if b"\n" in self._passed or len(self._passed) > _MAX_RUN:
            self._end_run(found)
        return found

    def _size(self) -> int | None:
        """Return the frame's size; 0 for what begins none, None while that is open."""
        if self._data[0] not in self._first_bytes or (len(self._data) > 1 and self._data[1]):
            return 0
        if len(self._data) < HEADER_SIZE:
            return None
        length = int(HEADER.unpack_from(self._data)[2])
        return HEADER_SIZE + length if length <= MAX_PAYLOAD else 0

    def _pass_over(self, found: list[bytes | NoFrame]) -> None:
        """Skip to the next byte that may begin an answer."""
        places = (self._data.find(first, 1) for first in self._first_bytes)
        at = min((place for place in places if place > 0), default=len(self._data))
        self._passed += self._data[:at]
        del self._data[:at]
        if len(self._passed) > _MAX_RUN:
            self._end_run(found)

    def _end_run(self, found: list[bytes | NoFrame]) -> None:
        if self._passed:
            found.append(NoFrame(bytes(self._passed)))
            self._passed.clear()
