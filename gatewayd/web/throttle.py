"""How often a password may be guessed: a few times at once, then slowly; by address, and in all."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

# A person who mistypes is not stopped; 2,880 guesses a day are no way to a password of eight characters.
BURST, REFILL_S = 5, 30.0
# From many addresses: as often as a small machine can afford to hash.
BURST_OF_ALL, REFILL_OF_ALL_S = 30, 2.0
_MOST_ADDRESSES = 1000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Throttle:
    """Counts wrong guesses. A right one costs nothing."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = _Bucket(BURST_OF_ALL, clock())
        self._by_address: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Return for how long no guess is taken from this address; 0: one is."""
        own = self._refilled(self._of(address), BURST, REFILL_S)
        everybody = self._refilled(self._all, BURST_OF_ALL, REFILL_OF_ALL_S)
        return max((1 - own) * REFILL_S, (1 - everybody) * REFILL_OF_ALL_S, 0.0)

    def begin(self, address: str) -> None:
        """Count a guess; `succeed` takes that back. So guesses at the same moment count, too."""
        self.wait_s(address)
        for bucket in (self._of(address), self._all):
            bucket.tokens -= 1

    def succeed(self, address: str) -> None:
        """Take a guess back that was right."""
        for bucket in (self._of(address), self._all):
            bucket.tokens += 1

    def _of(self, address: str) -> _Bucket:
        bucket = self._by_address.setdefault(address, _Bucket(BURST, self._clock()))
        self._by_address.move_to_end(address)
        if len(self._by_address) > _MOST_ADDRESSES:
            self._by_address.popitem(last=False)
        return bucket

    def _refilled(self, bucket: _Bucket, burst: int, refill_s: float) -> float:
        now = self._clock()
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.at) / refill_s)
        bucket.at = now
        return bucket.tokens
