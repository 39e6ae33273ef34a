"""A session under test: what it was told, what it logged, and a clock that a test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiomqtt import ProtocolVersion
from pydantic import SecretStr
from structlog.testing import capture_logs

from gatewayd.config import Mqtt
from gatewayd.mqtt.connection import STALL_WINDOW_S, STEADY_S, Connection, IncomingMessage, connect
from gatewayd.mqtt.duty_cycle import LOOK_S
from gatewayd.mqtt.login import Login
from gatewayd.mqtt.qos0 import FLOOD_WINDOW_S, REPORT_S
from gatewayd.mqtt.session import MqttSession
from gatewayd.mqtt.topics import GatewayTopics
from lab.brokers import DEADLINE_S, until

TOPIC = "/a/pump/u/4.3"
OTHER = "/a/pump/u/4.4"


class Naps:
    """Sleeping without time: back-offs end at once, or when let go; the stall watch goes on at `tick`.

    `looks` counts how often a session on a metered link looked whether it is still of use. Set `steady` for a
    connection that has held for long, `report` for one pass of what tells of dropped messages, `flood` for
    one window of what watches for floods.
    """

    def __init__(self) -> None:
        self.lengths_s: list[float] = []
        self.looks = 0
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.steady = asyncio.Event()
        self.report = asyncio.Event()
        self.flood = asyncio.Event()
        self._ticks = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        if seconds == STALL_WINDOW_S:
            await self._ticks.acquire()
            return
        if seconds == LOOK_S:
            await asyncio.sleep(0.001)
            self.looks += 1
            return
        if seconds == REPORT_S:
            await self.report.wait()
            self.report.clear()
            return
        if seconds == FLOOD_WINDOW_S:
            await self.flood.wait()
            self.flood.clear()
            return
        if seconds == STEADY_S:
            await self.steady.wait()
            return
        self.lengths_s.append(seconds)
        await self.let_go.wait()
        # A broker that is gone takes a moment of real time to come back; do not spin meanwhile.
        await asyncio.sleep(0.001)

    async def tick(self) -> None:
        """Let one window of the stall watch pass."""
        self._ticks.release()
        await until(self._ticks.locked)
        await asyncio.sleep(0)


@dataclass
class Lab:
    session: MqttSession
    naps: Naps
    log: list[Any]
    got: list[IncomingMessage]
    connected: list[bool]
    accept: list[Callable[[IncomingMessage], Any]] = field(default_factory=list)
    now_s: float = 1000.0
    task: "asyncio.Task[None] | None" = None

    @property
    def connection(self) -> Connection:
        connection = self.session._connection  # noqa: SLF001 - to cut it
        assert connection
        return connection

    async def subscribed(self, *topics: str) -> None:
        """Have the session subscribed to exactly these topics."""
        self.session.set_topics(frozenset(topics))
        await self.subscribed_to(*topics)

    async def subscribed_to(self, *topics: str) -> None:
        """Wait until the broker has granted exactly these topics."""
        topics_set = frozenset(topics)
        await until(
            lambda: self.session.is_connected and self.session.subscribed_topics == topics_set,
            f"being subscribed to {topics}; log: {self.log}",
        )

    def logged(self, event: str = "", **fields: Any) -> list[Any]:
        return [
            line
            for line in self.log
            if event in line["event"] and all(line.get(key) == value for key, value in fields.items())
        ]

    async def looked(self) -> None:
        """Wait until the session has looked twice whether its connection is still of use."""
        before = self.naps.looks
        await until(lambda: self.naps.looks >= before + 2)

    async def stop(self) -> None:
        """Cancel the session, as the daemon does at its end."""
        assert self.task
        self.task.cancel()
        await asyncio.wait([self.task], timeout=DEADLINE_S)
        assert self.task.cancelled()


@asynccontextmanager
async def session_lab(port: int, *, accept: Any = None, **options: Any) -> AsyncIterator[Lab]:
    """Run a session; `accept` stands in for the intake. It is stopped at the end, unless the test did."""
    got: list[IncomingMessage] = []
    connected: list[bool] = []
    password = options.pop("password", None)
    host = options.pop("host", "127.0.0.1")
    naps = Naps()

    async def on_message(message: IncomingMessage) -> None:
        got.append(message)
        if accept:
            await accept(message)

    settings = Mqtt(
        host=host, port=port, **{"client_id": "gw", **options}, password=password and SecretStr(password)
    )
    with capture_logs() as log:
        session = MqttSession(
            settings,
            topics=GatewayTopics("gatewayd/barn"),
            on_message=on_message,
            on_connected=lambda: connected.append(True),
            sleep=naps,
            clock=lambda: lab.now_s,
            chance=lambda: 0.5,
        )
        lab = Lab(session, naps, log, got, connected)
        lab.task = asyncio.create_task(session.run())
        try:
            yield lab
        finally:
            if not lab.task.done():
                await lab.stop()


@asynccontextmanager
async def publisher(port: int, **login: Any) -> AsyncIterator[Connection]:
    """A client that is not the gateway."""
    connection = await connect(
        Login("127.0.0.1", port, login.pop("client_id", "publisher"), **login), ProtocolVersion.V5
    )
    try:
        yield connection
    finally:
        await connection.close()


async def retained(port: int, topic: str, wanted: bytes) -> None:
    """Wait until the broker has `wanted` retained on `topic`."""
    async with publisher(port, client_id=f"reader of {topic}") as reader, asyncio.timeout(DEADLINE_S):
        await reader.subscribe([topic], replay_retained=True)
        while True:
            delivery = await reader.receive()
            reader.acknowledge(delivery)
            if delivery.message.payload == wanted:
                return
