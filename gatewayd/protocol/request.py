"""A control request: repeated until it is answered or given up."""

import math
from typing import Generic, Self, TypeVar

ROUNDS = 16  # fewer would mistake a slow flash for a dead one
FLOOR_S = 0.2  # scheduling and USB latency many times over
_CEILING_S = 1.0
ASK_INTERVAL_S = 0.25  # for a device that may be booting: four tries a second
TURNAROUNDS = 4  # how many turnarounds an answer may take


Frame = TypeVar("Frame")


class Request(Generic[Frame]):
    """A request and its schedule: it is repeated after its time on the wire and a pause that doubles.

    Attributes:
        frame: what the protocol sends; opaque here.
        moved_at: when it was begun.
        times_sent: how often it was sent; counts from one again after the device asked to wait.
    """

    def __init__(
        self,
        frame: Frame,
        now: float,
        *,
        wire_s: float,
        turnaround_s: float = 0.0,
        rounds: float = ROUNDS,
        floor_s: float = FLOOR_S,
    ) -> None:
        self.frame = frame
        self.moved_at = now
        self.sent_at = now
        self.times_sent = 0
        self._due_at = now
        self._wire_s = wire_s
        self._pause_s = max(TURNAROUNDS * turnaround_s, floor_s)
        self._ceiling_s = max(self._pause_s, _CEILING_S)
        self._rounds = rounds
        self._gives_up_at = math.inf
        self._was_held = False

    @classmethod
    def patient(
        cls, frame: Frame, begins_at: float, *, wire_s: float, interval_s: float, gives_up_at: float
    ) -> Self:
        """Return a request that is repeated at a steady interval until `gives_up_at`."""
        request = cls(frame, begins_at, wire_s=wire_s, rounds=math.inf)
        request._pause_s = request._ceiling_s = interval_s
        request._gives_up_at = gives_up_at
        return request

    def is_due(self, now: float) -> bool:
        """Whether it has to be sent (again)."""
        return now >= self._due_at and not self.is_in_vain(now)

    def is_in_vain(self, now: float) -> bool:
        """Whether it has been repeated often and long enough to give up."""
        return now >= self._gives_up_at or (self.times_sent >= self._rounds and now >= self._due_at)

    def mark_sent(self, now: float) -> None:
        """Note that it is being sent."""
        self.times_sent += 1
        self.sent_at = now
        self._due_at = now + self._wire_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._ceiling_s)

    def hold(self, until: float) -> None:
        """Do not repeat it before `until`: the device is alive and busy."""
        self._was_held = True
        self.times_sent = 1
        self._due_at = max(self._due_at, until)

    def turnaround_s(self, now: float, answer_wire_s: float) -> float | None:
        """Return how long device and link took; None if it is not clear which repetition was answered."""
        if self.times_sent != 1 or self._was_held:
            return None
        return max(0.0, now - self.sent_at - self._wire_s - answer_wire_s)

    def deadline(self) -> float:
        """Return when it is due again, or given up."""
        return min(self._due_at, self._gives_up_at)
