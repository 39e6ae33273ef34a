"""How much is read of a line that never falls silent.

All lines share one processor, and on USB a device is not held to any speed. What a healthy one says is a
fiftieth of what it is sent, and a burst of console text. So each line may bring its own speed twice over, or
a little more than any update needs; what is beyond that waits in the kernel, and holds the device back or is
dropped there.
"""

# At 22 bytes of ACK to a chunk of 1024, enough for 6 MB/s of firmware.
LEAST_BYTES_PER_S = 128 * 1024
BURST_BYTES = 64 * 1024
# Taken at once: at 2 s a megabyte, what the worst bytes take to look at, no more than 2 ms for the loop.
PIECE_BYTES = 1024
_BITS_PER_BYTE = 10


class Allowance:
    """What one line may still bring. Times are of any one clock, in seconds."""

    def __init__(self, baud: int) -> None:
        self._rate = max(LEAST_BYTES_PER_S, 2 * baud / _BITS_PER_BYTE)
        self._left = float(BURST_BYTES)
        self._at: float | None = None

    def took(self, size: int, now: float) -> None:
        """Note that so many bytes were taken."""
        since = 0.0 if self._at is None else now - self._at
        self._at = now
        self._left = min(BURST_BYTES, self._left + since * self._rate) - size

    def wait_s(self, now: float) -> float:
        """How long to wait before more is taken."""
        if self._at is None:
            return 0.0
        return max(0.0, -self._left / self._rate - (now - self._at))
