"""Whether a transfer gets somewhere: a device that takes a byte a second answers, and never ends."""

PACE_S = 60.0  # over which a transfer has to get somewhere, waits that the device asked for not counted
_LEAST_SHARE = 100  # of the line's rate, the least that counts as progress: at 1 byte/s it would take weeks


class Pace:
    """Watches what arrives. `rate` is what the link carries, in bytes a second.

    Attributes:
        crawled: bytes in `PACE_S`, once they were too few.
    """

    def __init__(self, rate: float, now: float, received: int) -> None:
        self.crawled: int | None = None
        self._rate = rate
        self._since, self._from = now, received

    def hold(self, until: float, received: int) -> None:
        """The device lives and is busy: count from then on."""
        self._since, self._from = until, received

    def advance(self, now: float, received: int, *, is_complete: bool) -> None:
        """The device has `received` bytes."""
        if now - self._since < PACE_S:
            return
        size = received - self._from
        if size < self._rate * (now - self._since) / _LEAST_SHARE and not is_complete:
            self.crawled = size
        self._since, self._from = now, received
