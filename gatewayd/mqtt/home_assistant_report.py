"""Publishes what Home Assistant discovers, as retained messages. Level-triggered, like gateway_report.py.

`_held` has the topics where the broker has a message of ours, as far as is known. One that is no longer
wanted (the device was removed, the feature switched off, the prefix changed) is emptied, and Home Assistant
forgets what it was told there. Those of an earlier process are not known: the broker is asked once what it
retains below this gateway's part of the prefix.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from gatewayd.codes import Code
from gatewayd.errors import GatewaydError
from gatewayd.mqtt.gateway_report import LOOK_S
from gatewayd.mqtt.home_assistant import Discovery, offer_of
from gatewayd.status.board import StatusBoard

log = structlog.get_logger()


class Broker(Protocol):
    """What the report needs of a session."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish and wait until the broker has it."""
        ...

    async def retained(self, topic_filter: str) -> frozenset[str]:
        """Return the topics that match and where something is retained."""
        ...


class HomeAssistantReport:
    """Publishes what `wanted` returns, by topic; `board` says when an offer changes.

    `held`: topics of an earlier report to the same broker, which this one goes on with. `search`: the filter
    for what an earlier process may have left there; empty: nothing is looked for.
    """

    def __init__(
        self,
        wanted: Callable[[], Mapping[str, Discovery]],
        broker: Broker,
        board: StatusBoard,
        *,
        search: str = "",
        held: Mapping[str, str] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._wanted = wanted
        self._broker = broker
        self._board = board
        self._search = search
        self._sleep = sleep
        self._held: dict[str, str] = dict(held or {})  # topic: what stands there, by its identifier
        self._sent: dict[str, Discovery] = {}
        self._refused: set[str] = set()
        self._due = asyncio.Event()

    @property
    def held(self) -> Mapping[str, str]:
        """Topics where the broker has a message of ours, and of which device."""
        return self._held

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to publish or to empty."""
        return bool(self._search or self._held)

    def resend(self) -> None:
        """Send everything again: a new connection may lead to a broker that has lost it."""
        self._sent.clear()
        self._due.set()

    async def run(self) -> None:
        """Report until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(), name="home assistant: look")
            tasks.create_task(self._follow(), name="home assistant: follow")
            tasks.create_task(self._send_when_due(), name="home assistant: send")
            tasks.create_task(self._find_ghosts(), name="home assistant: ghosts")

    async def _look(self) -> None:
        while True:
            wanted = self._wanted()
            if wanted != self._sent or self._held.keys() - wanted.keys():
                self._due.set()
            await self._sleep(LOOK_S)

    async def _follow(self) -> None:
        """Send an offer at once: until then Home Assistant's button has the version of the one before."""
        last: dict[str, object] = {}
        with self._board.subscribe() as changes:
            async for name in changes:
                if (now := offer_of(self._board.get(name))) != last.get(name):
                    last[name] = now
                    self._due.set()

    async def _send_when_due(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._send()
            except GatewaydError:
                continue  # no connection: with the next one everything is due again

    async def _send(self) -> None:
        """Empty first: an entity that moves to another topic must not be there twice."""
        wanted = self._wanted()
        for topic, identifier in list(self._held.items()):
            if topic not in wanted or identifier not in ("", wanted[topic].identifier):
                await self._publish(topic, b"")
                del self._held[topic]
                self._sent.pop(topic, None)
        for topic, discovery in wanted.items():
            if self._sent.get(topic) != discovery:
                self._held[topic] = discovery.identifier
                await self._publish(topic, discovery.to_bytes())
                self._sent[topic] = discovery

    async def _find_ghosts(self) -> None:
        """Search once there is a connection. It takes seconds, in which a new offer must not wait."""
        while self._search:
            await self._sleep(LOOK_S)
            try:
                found = await self._broker.retained(self._search)
            except GatewaydError:
                continue
            self._search = ""
            if ghosts := found - self._held.keys() - self._wanted().keys():
                log.info("removing from Home Assistant what is no longer configured", topics=sorted(ghosts))
                self._held.update(dict.fromkeys(ghosts, ""))
                self._due.set()

    async def _publish(self, topic: str, payload: bytes) -> None:
        """Publish; what the broker forbids is logged once, and counts as sent."""
        try:
            await self._broker.publish(topic, payload)
        except GatewaydError as error:
            if error.code != Code.PUBLISH_REFUSED:
                raise
            if topic not in self._refused:
                self._refused.add(topic)
                log.warning(
                    "the broker refuses what Home Assistant is to discover",
                    topic=topic,
                    code=error.code,
                    reason=str(error),
                )
