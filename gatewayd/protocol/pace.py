"""Whether a transfer gets somewhere: a device that takes a byte a second answers, and never ends."""

# In ten minutes at least this much, or an erase block, has to become durable, whatever the device asks for.
LEAST_DURABLE_BYTES = 4096
LEAST_DURABLE_S = 600.0
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


class DurableFloor:
    """The least that must become durable in a while, however the device spends its time.

    A device that takes a byte, says BUSY and takes another byte advances, is never silent and would need two
    years for 1 MiB. What it asks for between two bytes therefore counts here.

    Args:
        least_bytes: what has to become durable in each period; less at the image's end.
        period_s: how long that may take.
        size: of the image.
    """

    def __init__(self, least_bytes: int, period_s: float, size: int) -> None:
        self.period_s = period_s
        self._least_bytes = least_bytes
        self._size = size
        self._since: float | None = None
        self._durable = 0

    def begin(self, durable: int, now: float) -> None:
        """The device wants bytes from `durable` on; counts from the first time on."""
        if self._since is None:
            self._since, self._durable = now, durable

    def note(self, durable: int, now: float) -> None:
        """So many bytes are durable now."""
        if durable - self._durable >= min(self._least_bytes, self._size - self._durable):
            self._since, self._durable = now, durable

    def is_missed(self, now: float) -> bool:
        """Whether the last period brought less."""
        return self._since is not None and now - self._since >= self.period_s
