"""A Link to `rcp-device --datagram`: a Unix socket whose packets are writes and notifications."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from gatewayd.errors import LinkError, LinkLost
from gatewayd.link.base import LeadsToOne

_LONGEST = 512


class PacketLink(LeadsToOne):
    """See Link. `confirmed` has the packets that were sent with the wish for a response."""

    is_datagram = True
    vanishes_with_device = True

    def __init__(self, path: Path, mtu: int) -> None:
        self.max_datagram: int | None = mtu - 3
        self.confirmed: list[bytes] = []
        self.sent = 0
        self._news = asyncio.Event()
        self._path = path
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(self._socket, str(self._path))
        except OSError as error:
            await self.close()
            raise LinkError(f"{self._path}: {error}", code="link_missing") from error

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        if confirmed:
            self.confirmed.append(data)
        self.sent += len(data)
        self._news.set()
        with _translated():
            await asyncio.get_running_loop().sock_sendall(self._opened(), data)

    async def sent_at_least(self, size: int) -> None:
        """Wait until this many bytes have been sent."""
        while self.sent < size:
            self._news.clear()
            await self._news.wait()

    async def receive(self) -> bytes:
        with _translated():
            packet = await asyncio.get_running_loop().sock_recv(self._opened(), _LONGEST)
        if not packet:
            raise LinkLost("the device has ended the connection")
        return packet

    async def set_baud(self, baud: int) -> None:
        raise AssertionError(baud)

    def _opened(self) -> socket.socket:
        assert self._socket is not None
        return self._socket


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LinkLost(str(error)) from error
