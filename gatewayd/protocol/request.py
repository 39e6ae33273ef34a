"""A control request: sent again and again until its answer comes, or it has been in vain."""

import math
from typing import Generic, Self, TypeVar

ROUNDS = 16  # less mistakes a slow flash for a dead one
FLOOR_S = 0.2  # scheduling and USB latency many times over
_CEILING_S = 1.0
ASK_INTERVAL_S = 0.25  # of a device that may be booting: four tries in a second
TURNAROUNDS = 4  # how many turnarounds an answer may take


Frame = TypeVar("Frame")


class Request(Generic[Frame]):
    """What is asked, and when again: after its own time on the wire and a pause that doubles.

    Attributes:
        frame: what the protocol sends; nothing is known of it here.
        moved_at: when it was begun.
        times_sent: how often it was sent; once again after the device asked to wait.
    """

    def __init__(
        self, frame: Frame, now: float, *, wire_s: float, turnaround_s: float = 0.0, rounds: float = ROUNDS
    ) -> None:
        self.frame = frame
        self.moved_at = now
        self.sent_at = now
        self.times_sent = 0
        self._due_at = now
        self._wire_s = wire_s
        self._pause_s = max(TURNAROUNDS * turnaround_s, FLOOR_S)
        self._ceiling_s = max(self._pause_s, _CEILING_S)
        self._rounds = rounds
        self._gives_up_at = math.inf
        self._was_held = False

    @classmethod
    def patient(
        cls, frame: Frame, begins_at: float, *, wire_s: float, interval_s: float, gives_up_at: float
    ) -> Self:
        """Ask at a steady interval until some time."""
        request = cls(frame, begins_at, wire_s=wire_s, rounds=math.inf)
        request._pause_s = request._ceiling_s = interval_s
        request._gives_up_at = gives_up_at
        return request

    def is_due(self, now: float) -> bool:
        """Whether it has to be sent (again)."""
        return now >= self._due_at and not self.is_in_vain(now)

    def is_in_vain(self, now: float) -> bool:
        """Whether it has been sent often and long enough."""
        return now >= self._gives_up_at or (self.times_sent >= self._rounds and now >= self._due_at)

    def mark_sent(self, now: float) -> None:
        """Note that it goes out now."""
        self.times_sent += 1
        self.sent_at = now
        self._due_at = now + self._wire_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._ceiling_s)

    def hold(self, until: float) -> None:
        """The device lives and is busy: do not ask again before."""
        self._was_held = True
        self.times_sent = 1
        self._due_at = max(self._due_at, until)

    def turnaround_s(self, now: float, answer_wire_s: float) -> float | None:
        """Return how long the device and the way took; None when it is not clear what was answered."""
        if self.times_sent != 1 or self._was_held:
            return None
        return max(0.0, now - self.sent_at - self._wire_s - answer_wire_s)

    def deadline(self) -> float:
        """When it is due or in vain."""
        return min(self._due_at, self._gives_up_at)
