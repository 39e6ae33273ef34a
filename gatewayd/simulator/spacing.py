"""When a device on a datagram link acknowledges (protocol.md, section 11): an ACK costs a whole packet."""

_FRAMES = 6  # a quarter of the frames that a gateway has in flight


class AckSpacing:
    """Counts what was taken since the last ACK. On a stream every DATA is acknowledged.

    `room`: how many bytes may be in flight, by window and ring.
    """

    def __init__(self, room: int) -> None:
        self.is_datagram = False
        self._quarter = room / 4
        self.told()

    def told(self) -> None:
        """Note that an ACK or NAK is being sent."""
        self._frames = self._bytes = 0

    def may_wait(self, size: int, chunk: int, room: int) -> bool:
        """Note `size` new bytes of a `chunk`; return whether the ACK may wait. `room`: credit left."""
        self._frames += 1
        self._bytes += size
        is_soon = self._frames >= _FRAMES or self._bytes >= self._quarter
        return self.is_datagram and not is_soon and chunk <= room
