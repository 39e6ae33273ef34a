"""The interface of a link, which carries bytes to and from a device."""

from typing import Protocol


class Link(Protocol):
    """A connection that can be opened and closed. Raises LinkError; LinkLost if it is lost while open."""

    @property
    def is_datagram(self) -> bool:
        """Whether `send` and `receive` preserve message boundaries."""

    @property
    def max_datagram(self) -> int | None:
        """The most bytes one `send` can carry on a datagram link; None on a stream."""

    @property
    def vanishes_with_device(self) -> bool:
        """Whether the link goes down when the device restarts, and must be opened again."""

    async def open(self) -> None:
        """Open exclusively. Raises LinkError (`link_missing`, `link_busy`, `link_denied`, `link_error`)."""

    async def close(self) -> None:
        """Close; does nothing if it is closed. Never raises."""

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        """Send; returns when at most one frame is still queued below this layer. Raises LinkLost.

        A radio queues without limit; with `confirmed`, `send` waits until the device has received everything.
        """

    async def receive(self) -> bytes:
        """Wait for bytes, at least one. Raises LinkLost."""

    async def set_baud(self, baud: int) -> None:
        """Wait until everything was sent, then change the speed. Does nothing on a link without speeds."""
