"""A session on a board's UART, with nothing in between but what a test puts there: raw, recorded, quick."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gatewayd.protocol import session
from gatewayd.protocol.smp.gateway import SmpGateway

_LIMIT_S = 120.0


@dataclass
class Recording:
    """What went over a UART: seconds since the start, direction (> to the device), bytes."""

    began: float
    entries: list[tuple[float, str, bytes]] = field(default_factory=list)

    def add(self, now: float, direction: str, data: bytes) -> None:
        """Note bytes; what follows within a millisecond in the same direction is one entry."""
        at = now - self.began
        if self.entries and self.entries[-1][1] == direction and at - self.entries[-1][0] < 0.001:
            last = self.entries[-1]
            self.entries[-1] = (last[0], direction, last[2] + data)
        else:
            self.entries.append((at, direction, data))

    def text(self) -> str:
        """Return it as lines."""
        return "".join(f"{at:10.4f} {way} {data.hex()}\n" for at, way, data in self.entries)


class Wire:
    """Pumps one session over one socket."""

    def __init__(self, uart: socket.socket, session: SmpGateway, recording: Recording | None = None) -> None:
        self.session = session
        self.events: list[Any] = []
        self._uart = uart
        self._loop = asyncio.get_running_loop()
        self._recording = recording

    @property
    def now(self) -> float:
        """The session's clock."""
        return self._loop.time()

    async def run(self, start: Callable[[float], None], until: Callable[[], bool] = lambda: False) -> Any:
        """Run an operation to its outcome, or until something is true (then None)."""
        start(self.now)
        async with asyncio.timeout(_LIMIT_S):
            while not until():
                while (event := self.session.next_event()) is not None:
                    self.events.append(event)
                    if isinstance(event, session.OUTCOMES):
                        return event
                await self._turn()
        return None

    async def listen(self, seconds: float) -> None:
        """Only take what comes."""
        ends = self.now + seconds
        while (left := ends - self.now) > 0:
            await self._hear(left)

    async def _turn(self) -> None:
        deadline = self.session.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.session.handle_timeout(self.now)
        data = self.session.data_to_send(self.now)
        if data:
            self._note(">", data)
            await self._loop.sock_sendall(self._uart, data)
            return
        deadline = self.session.next_deadline()
        await self._hear(1.0 if deadline is None else max(0.0, deadline - self.now))

    async def _hear(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                data = await self._loop.sock_recv(self._uart, 4096)
        except TimeoutError:
            return
        assert data, "the board's UART is gone"
        self._note("<", data)
        self.session.receive_data(data, self.now)

    def _note(self, direction: str, data: bytes) -> None:
        if self._recording is not None:
            self._recording.add(self.now, direction, data)
