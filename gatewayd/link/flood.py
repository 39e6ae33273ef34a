"""A rate limit on reading from a line that floods us.

All lines share one processor, and a USB device is not held to any speed. A healthy device sends a fiftieth of
what it receives, and bursts of console text. So each line may send at twice its own speed, or at a little
more than any update needs if that is higher. The excess waits in the kernel, which throttles the device or
drops it.
"""

# At 22 bytes of ACK to a chunk of 1024, enough for 6 MB/s of firmware.
LEAST_BYTES_PER_S = 128 * 1024
BURST_BYTES = 64 * 1024
# Read at a time. The worst input takes 2 s a megabyte to parse, so this blocks the loop for at most 2 ms.
PIECE_BYTES = 1024
_BITS_PER_BYTE = 10


class Allowance:
    """A token bucket for one line. Times are in seconds, of any one clock."""

    def __init__(self, baud: int) -> None:
        self._rate = max(LEAST_BYTES_PER_S, 2 * baud / _BITS_PER_BYTE)
        self._left = float(BURST_BYTES)
        self._at: float | None = None

    def took(self, size: int, now: float) -> None:
        """Note that `size` bytes were read."""
        since = 0.0 if self._at is None else now - self._at
        self._at = now
        self._left = min(BURST_BYTES, self._left + since * self._rate) - size

    def admits(self, size: int, now: float) -> bool:
        """Note that `size` bytes were read, unless they have to wait."""
        if self.wait_s(now):
            return False
        self.took(size, now)
        return True

    def wait_s(self, now: float) -> float:
        """Return how long to wait before reading more."""
        if self._at is None or self._left >= 0:
            return 0.0
        return max(0.0, -self._left / self._rate - (now - self._at))
