"""A TCP line between a client and a broker that a test can stop, in each direction, without closing it."""

import asyncio
from dataclasses import dataclass, field
from typing import Self


class Valve:
    """Lets bytes pass; `budget` many of them, where there is one."""

    def __init__(self) -> None:
        self.passed_bytes = 0
        self.budget: int | None = None
        self._changed = asyncio.Event()

    def shut(self, after_bytes: int = 0) -> None:
        """Let `after_bytes` more pass, and nothing after them."""
        self.budget = after_bytes

    def open(self) -> None:
        self.budget = None
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def is_shut(self) -> bool:
        return self.budget == 0

    async def take(self, wanted: int) -> int:
        """Wait until bytes may pass; returns how many of `wanted`."""
        while self.budget == 0:
            await self._changed.wait()
        taken = wanted if self.budget is None else min(wanted, self.budget)
        if self.budget is not None:
            self.budget -= taken
        self.passed_bytes += taken
        return taken


@dataclass
class Line:
    """One connection through the relay."""

    up: Valve = field(default_factory=Valve)
    down: Valve = field(default_factory=Valve)


class Relay:
    """Forwards to a port of 127.0.0.1: `up` leads to the broker, `down` to the client."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.lines: list[Line] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def line(self) -> Line:
        """The latest connection."""
        return self.lines[-1]

    def freeze(self) -> None:
        """Stop forwarding on the line there is, as a router does that lost its power: nothing is closed."""
        self.line.up.shut()
        self.line.down.shut()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            theirs = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        line = Line()
        self.lines.append(line)
        pumps = [
            asyncio.create_task(_pump(reader, theirs[1], line.up)),
            asyncio.create_task(_pump(theirs[0], writer, line.down)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the test is over, and the server wants no task that ends so
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            for stream in (writer, theirs[1]):
                stream.transport.abort()
            self._tasks.discard(task)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, valve: Valve) -> None:
    """Until the source ends. Takes from it only what may pass, so that the sender feels the back-pressure."""
    try:
        while True:
            await valve.take(0)
            received = await source.read(4096)
            if not received:
                return
            while received:
                allowed = await valve.take(len(received))
                sink.write(received[:allowed])
                await sink.drain()
                received = received[allowed:]
    except OSError:
        return
