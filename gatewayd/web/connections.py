"""Bounds what connections cost: how many there are, and how long one may take to say what it wants.

aiohttp reads a request whenever it comes, from however many. Between the socket and each of its protocols
stands one of ours, which ends a connection that asks for nothing, or for too long.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from aiohttp import web

# A thousand pages that are open, and room for what they ask besides.
MOST_LISTENERS = 1000
MOST_CONNECTIONS = 1200
# For the request's first line and headers; then for its body.
REQUEST_LIMIT_S = 10.0
# Between two requests of one connection.
IDLE_LIMIT_S = 30.0


class Connections:
    """Every open connection. `inner` makes the protocols that answer; set it before listening."""

    inner: Callable[[], asyncio.Protocol]

    def __init__(self, most: int = MOST_CONNECTIONS) -> None:
        self._most = most
        self._open: dict[asyncio.BaseTransport, _Bounded] = {}

    def __len__(self) -> int:
        return len(self._open)

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol for a new connection; a factory, as `loop.create_server` takes one."""
        return _Bounded(self.inner(), self._open, self._most)

    @contextlib.contextmanager
    def busy(self, request: web.Request) -> Iterator[None]:
        """Let a connection take its time: its request is here, and being answered."""
        connection = self._open.get(request.transport) if request.transport else None
        if connection is None:
            yield
            return
        connection.allow(None)
        try:
            yield
        finally:
            connection.allow(IDLE_LIMIT_S)


class _Bounded(asyncio.Protocol):
    """Passes everything on, until its time is over."""

    def __init__(
        self, inner: asyncio.Protocol, others: "dict[asyncio.BaseTransport, _Bounded]", most: int
    ) -> None:
        self._inner = inner
        self._others = others
        self._most = most
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_known = False

    def allow(self, seconds: float | None) -> None:
        """End the connection after this time, unless it is told otherwise; None: not by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and self._transport is not None and not self._transport.is_closing():
            self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP has no other
        if len(self._others) >= self._most:
            transport.abort()
            return
        self._transport = transport
        self._is_known = True
        self._others[transport] = self
        self.allow(REQUEST_LIMIT_S)
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self.allow(None)
        if self._is_known and self._transport is not None:
            del self._others[self._transport]
            self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._is_known:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """See asyncio."""
        return self._inner.eof_received() if self._is_known else None

    def pause_writing(self) -> None:
        """See asyncio."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio."""
        self._inner.resume_writing()
