"""The interface of a link, which carries bytes to and from a device."""

from collections.abc import Callable
from typing import Protocol


class Link(Protocol):
    """A connection that can be opened and closed. Raises LinkError; LinkLost if it is lost while open.

    Attributes:
        on_data: takes what arrives as soon as it does, where the link can tell; `receive` gets the rest. It
            is called by the loop, and must neither raise nor wait.
    """

    on_data: Callable[[bytes], None] | None

    @property
    def is_datagram(self) -> bool:
        """Whether `send` and `receive` preserve message boundaries."""

    @property
    def max_datagram(self) -> int | None:
        """The most bytes one `send` can carry on a datagram link; None on a stream."""

    @property
    def vanishes_with_device(self) -> bool:
        """Whether the link goes down when the device restarts, and must be opened again."""

    @property
    def peer(self) -> str | None:
        """The address of the device that it was opened to last; None: it tells nothing of the device.

        That is so on a wire, and where the address changes with time.
        """

    @property
    def silence_code(self) -> str:
        """The code of a likely cause when the link is up and nothing comes; empty: there is none."""

    @property
    def silence_hint(self) -> str:
        """What else to try when the link is up and nothing comes; empty: nothing more than usual."""

    async def rival(self) -> str:
        """Name another program that has the line open, too, and takes bytes from it; empty: none is known."""

    def expect(self, peer: str | None, *, only: bool) -> None:
        """Of several devices that fit, prefer the one at this address; `only`: open to no other."""

    def pass_over(self) -> bool:
        """Leave the device that it was opened to aside from now on; False: it leads to no other."""

    async def open(self) -> None:
        """Open exclusively. Raises LinkError (`link_missing`, `link_busy`, `link_denied`, `link_error`)."""

    async def close(self) -> None:
        """Close; does nothing if it is closed. Never raises."""

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        """Send; returns when at most one frame is still queued below this layer. Raises LinkLost.

        A radio queues without limit; with `confirmed`, `send` waits until the device has received everything.
        """

    def send_now(self, data: bytes) -> bool:
        """Send unconfirmed if that needs no waiting; else do nothing and return False. Raises LinkLost.

        On a stream, `data` may be several frames.
        """

    async def receive(self) -> bytes:
        """Wait for bytes, at least one. Raises LinkLost."""

    def hold(self) -> bool:
        """Keep what arrives until `look`; False: this link cannot, and goes on."""

    def look(self) -> None:
        """Hand over what has arrived since `hold`, in this turn, and go on. Never raises."""

    async def set_baud(self, baud: int) -> None:
        """Wait until everything was sent, then change the speed. Does nothing on a link without speeds."""


class LeadsToOne:
    """What is the same for all links that lead to one device, whichever is at the other end.

    One that is no faster for it leaves `on_data`, `send_now`, `hold` and `look` as they are here.
    """

    peer: str | None = None
    silence_code: str = ""
    silence_hint: str = ""
    on_data: Callable[[bytes], None] | None = None

    async def rival(self) -> str:
        """See Link."""
        return ""

    def expect(self, peer: str | None, *, only: bool) -> None:
        """See Link."""

    def pass_over(self) -> bool:
        """See Link."""
        return False

    def send_now(self, data: bytes) -> bool:  # noqa: ARG002 - as Link has it
        """See Link."""
        return False

    def hold(self) -> bool:
        """See Link."""
        return False

    def look(self) -> None:
        """See Link."""
