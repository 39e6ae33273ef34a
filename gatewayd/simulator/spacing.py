"""When a device on a datagram link acknowledges (protocol.md, section 11): an ACK costs a whole packet."""

_FRAMES = 6  # a quarter of what a gateway has in flight


class AckSpacing:
    """What has been taken since the gateway was told last. On a stream it is told of every DATA.

    `room`: bytes that may be under way, by window and ring.
    """

    def __init__(self, room: int) -> None:
        self.is_datagram = False
        self._quarter = room / 4
        self.told()

    def told(self) -> None:
        """The gateway hears now how far the device is."""
        self._frames = self._bytes = 0

    def may_wait(self, size: int, chunk: int, room: int) -> bool:
        """Note `size` bytes of a `chunk` taken; `room` is what the credit said last has left for more."""
        self._frames += 1
        self._bytes += size
        is_soon = self._frames >= _FRAMES or self._bytes >= self._quarter
        return self.is_datagram and not is_soon and chunk <= room
