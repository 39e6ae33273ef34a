"""What is kept of one image's transfer across all setbacks: counts, not offsets."""

import zlib

from gatewayd.errors import DeviceError
from gatewayd.protocol.pace import DurableFloor
from gatewayd.protocol.rcp import failures
from gatewayd.protocol.rcp.frames import Data
from gatewayd.protocol.rcp.tlv_frames import Offer
from gatewayd.protocol.session import Image, Traffic

BAUD_FAILURES = 2  # then the speed stays at base
_STALLS = 3  # without a new durable byte in between
_SETBACKS = 8
_RESTARTS = 2  # without a new durable byte: then they are what prevents progress


class Transfer:
    """An image under way. The `may_` methods count setbacks, and return False after too many."""

    def __init__(self, image: Image, floor: DurableFloor) -> None:
        self.image = image
        self.floor = floor
        self.setbacks = 0
        self.baud_failures = 0
        self.has_aborted = False  # an earlier session, to be allowed to change the speed
        self._stalls = 0
        self._durable = 0
        self._high_water = 0
        self._offers_from_zero = self._has_begun_again = False
        self._fell_silent = False
        self._restarts = 0

    def offer(self, session: int) -> Offer:
        """Return the offer to make now."""
        image = self.image
        return Offer(
            session,
            image.sha256,
            len(image.content),
            image.version,
            from_zero=self._offers_from_zero,
            second_try=image.second_try,
        )

    def accepted(self) -> None:
        """Note that an offer was accepted."""
        self._offers_from_zero = self.has_aborted = False

    def has_prefix(self, offset: int, crc: int) -> bool:
        """Whether the image begins with that many bytes with this CRC."""
        content = memoryview(self.image.content)
        return offset <= len(content) and zlib.crc32(content[:offset]) == crc

    def advance(self, durable: int) -> None:
        """Restart the count of setbacks at a new durable byte."""
        if durable > self._durable:
            self._durable = durable
            self.setbacks = self._stalls = self._restarts = 0

    def may_go_on(self) -> bool:
        """Count a lost session or the like."""
        self.setbacks += 1
        return self.setbacks < _SETBACKS

    @property
    def has_stalled(self) -> bool:
        """Whether it has stalled since it last advanced."""
        return self._stalls > 0

    def may_stall(self, *, was_fast: bool) -> bool:
        """Count a silence of the device."""
        self._fell_silent = was_fast
        self._stalls += 1
        return self._stalls < _STALLS

    def may_begin_again(self) -> bool:
        """Begin again from zero, but only once: the device's bytes are not the image's."""
        is_first = not self._has_begun_again
        self._has_begun_again = self._offers_from_zero = True
        return is_first

    def hear_again(self, *, has_restarted: bool) -> None:
        """Note that the device answers again; silence without a restart is blamed on the raised speed."""
        self._restarts += has_restarted
        self.baud_failures += self._fell_silent and not has_restarted
        self._fell_silent = False

    def in_the_end(self, error: DeviceError) -> DeviceError:
        """Return the error that ends a series of setbacks: the last one, or the restarts behind them."""
        return error if self._restarts < _RESTARTS else failures.keeps_restarting(self._restarts)

    def count(self, frame: Data, traffic: Traffic) -> None:
        """Count a DATA frame that is being sent."""
        if not frame.payload:
            traffic.probes += 1
            return
        end = frame.offset + len(frame.payload)
        traffic.image_bytes_sent += len(frame.payload)
        traffic.image_bytes_repeated += max(0, min(end, self._high_water) - frame.offset)
        self._high_water = max(self._high_water, end)
