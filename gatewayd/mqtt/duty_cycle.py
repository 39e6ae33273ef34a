"""Metered links: when a connection has served its purpose, and when the next one is due.

A connection ends when nothing has come in for `wait`. What counts is a message, from its first byte until it
is on disk, and the answer to a subscription, because retained messages follow it. Reports are sent, but do
not extend the connection: a device that keeps failing would otherwise keep it open forever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import structlog

from gatewayd.config import Periodic

log = structlog.get_logger()

# Spreads gateways that started together after a power cut; `every` holds on average.
JITTER = 0.1
# How often to check whether a connection is still needed: `wait` is one second or more.
LOOK_S = 1.0


class Line(Protocol):
    """What the duty cycle sees of a connection."""

    @property
    def messages_in(self) -> int:
        """How many messages were received completely."""
        ...

    @property
    def received_of_packet_bytes(self) -> int:
        """How much of an incoming packet was received so far; 0 between packets."""
        ...


def next_visit_s(connected_at_s: float, every_s: float, chance: float) -> float:
    """Return when to connect again, counted from the start of the last connection; `chance` is 0 to 1."""
    return connected_at_s + every_s * (1 - JITTER + 2 * JITTER * chance)


class Visits:
    """The connections of a metered link: `begin`, `until_quiet`, `end`, `until_due`.

    With `connect: always` only `coming_in` and `leaving` are called, without effect.
    """

    def __init__(
        self,
        connect: Literal["always"] | Periodic,
        *,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.are_limited = isinstance(connect, Periodic)
        self._wait_s = self._every_s = 0.0
        if isinstance(connect, Periodic):
            self._wait_s, self._every_s = connect.wait.total_seconds(), connect.every.total_seconds()
        self._sleep, self._clock, self._chance = sleep, clock, chance
        self._connected_at_s = self._quiet_since_s = 0.0
        self._messages_in = self._coming_in = self._leaving = 0
        self._due_at_s: float | None = None
        self._wake = asyncio.Event()

    @property
    def next_in_s(self) -> float | None:
        """The time until the next visit; None unless we are sleeping."""
        return None if self._due_at_s is None else max(0.0, self._due_at_s - self._clock())

    def outlast(self, session_expiry_s: int | None) -> bool:
        """Whether we may sleep longer than the broker keeps our session; None: it keeps it as requested."""
        return session_expiry_s is not None and session_expiry_s < self._every_s * (1 + JITTER)

    def begin(self) -> None:
        """Note that a connection was made."""
        self._connected_at_s = self._quiet_since_s = self._clock()
        self._messages_in = 0
        self._due_at_s = None

    @contextmanager
    def coming_in(self) -> Iterator[None]:
        """Hold the connection open while something comes in; the wait restarts afterwards."""
        self._coming_in += 1
        try:
            yield
        finally:
            self._coming_in -= 1
            self._quiet_since_s = self._clock()

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Hold the connection open while something is sent."""
        self._leaving += 1
        try:
            yield
        finally:
            self._leaving -= 1

    async def until_quiet(self, line: Line) -> None:
        """Return when the connection has served its purpose."""
        while True:
            await self._sleep(LOOK_S)
            if self.is_quiet(line):
                self._wake.clear()  # a call from here on is too late for this connection
                return

    def is_quiet(self, line: Line) -> bool:
        """Whether the connection has served its purpose."""
        now_s = self._clock()
        if self._coming_in or line.received_of_packet_bytes or line.messages_in != self._messages_in:
            self._messages_in, self._quiet_since_s = line.messages_in, now_s
        return not self._leaving and now_s - self._quiet_since_s >= self._wait_s

    def end(self) -> None:
        """Decide when the next visit is due."""
        self._due_at_s = next_visit_s(self._connected_at_s, self._every_s, self._chance())

    async def until_due(self) -> None:
        """Sleep until the next visit is due or `wake` is called."""
        left_s = self.next_in_s or 0.0
        log.info("sleeping until the next connection is due", next_in_s=round(left_s))
        waits = [asyncio.ensure_future(self._sleep(left_s)), asyncio.ensure_future(self._wake.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._due_at_s = None
            for wait in waits:
                wait.cancel()

    def wake(self) -> None:
        """End the current sleep, or else the next one as soon as it begins."""
        self._wake.set()
