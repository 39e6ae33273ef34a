"""At what speed a device talks, and when it goes back to its base speed (protocol.md, section 9)."""

_BITS_PER_BYTE = 10
_FIRST_FRAME_S = 1.0
_NEXT_FRAME_S = 3.0


class LineSpeed:
    """The speed now, the one agreed on, and the fall back."""

    def __init__(self, base_baud: int) -> None:
        self.baud = self._base_baud = base_baud
        self.reset()

    def reset(self) -> None:
        """Return to the base speed immediately."""
        self.baud = self._base_baud
        self._agreed: int | None = None
        self._switch_at: float | None = None
        self._fall_back_at: float | None = None

    def switch_after(self, wire: bytes, baud: int, now: float) -> None:
        """BAUD_OK for `baud` goes out now; the speed changes when its last bit has left."""
        self._agreed = baud
        self._switch_at = now + len(wire) * _BITS_PER_BYTE / self.baud

    def heard(self, now: float) -> None:
        """Note that a valid frame came."""
        if self._fall_back_at is not None:
            self._fall_back_at = now + _NEXT_FRAME_S

    def deadline(self) -> float | None:
        """When `tick` is due."""
        due = [at for at in (self._switch_at, self._fall_back_at) if at is not None]
        return min(due, default=None)

    def tick(self, now: float) -> None:
        """Switch, or fall back."""
        if self._switch_at is not None and self._agreed is not None and now >= self._switch_at:
            self.baud = self._agreed
            raised = self.baud != self._base_baud
            self._fall_back_at = self._switch_at + _FIRST_FRAME_S if raised else None
            self._agreed = self._switch_at = None
        if self._fall_back_at is not None and now >= self._fall_back_at:
            self.reset()
