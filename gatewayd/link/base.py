"""The interface to whatever carries bytes to a device."""

from typing import Protocol


class Link(Protocol):
    """An open-able line. All failures are `LinkError`; one that went away in use is `LinkLost`."""

    @property
    def is_datagram(self) -> bool:
        """Whether `send` and `receive` keep boundaries."""

    @property
    def max_datagram(self) -> int | None:
        """Bytes that one `send` can carry on a datagram link; None on a stream."""

    @property
    def vanishes_with_device(self) -> bool:
        """Whether it goes away while the device restarts, and comes back with it."""

    @property
    def peer(self) -> str | None:
        """The address of the device that it was opened to last; None: it tells nothing of the device.

        That is so on a wire, and where the address changes with time.
        """

    def expect(self, peer: str | None, *, only: bool) -> None:
        """Of several devices that fit, prefer the one at this address; `only`: open to no other."""

    def pass_over(self) -> bool:
        """Leave the device that it was opened to aside from now on; False: it leads to no other."""

    async def open(self) -> None:
        """Open exclusively. Raises LinkError (`link_missing`, `link_busy`, `link_denied`, `link_error`)."""

    async def close(self) -> None:
        """Close; harmless when closed. Never raises."""

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        """Send; returns when at most one frame is still queued beneath us. Raises LinkLost.

        A radio queues without a limit, until `confirmed` asks for the other end's word that it has arrived.
        """

    async def receive(self) -> bytes:
        """Wait for bytes, at least one. Raises LinkLost."""

    async def set_baud(self, baud: int) -> None:
        """Wait until all that was sent has left, then change speed. Does nothing where there is no speed."""


class LeadsToOne:
    """What is the same for all links that lead to one device, whichever is at the other end."""

    peer: str | None = None

    def expect(self, peer: str | None, *, only: bool) -> None:
        """See Link."""

    def pass_over(self) -> bool:
        """See Link."""
        return False
