"""What the broker's session is subscribed to, and what it should be.

Theory of operation. `_held` is what we know the session to be subscribed to. It follows `want` by the
difference, and is emptied when the broker no longer had the session. With MQTT 5 each connection subscribes
to everything once more, which brings no retained message where there is a subscription: another client of
our name may have unsubscribed.

What is retained is the truth, and our store only a copy, which may be older than the broker's session: after
a backup was restored, or where the state directory is in memory. So a process asks once for what is retained
on each topic, whatever session the broker kept (retain handling 0). `_asked` has the topics where it did; on
those nothing is downloaded twice while the session lives.
"""

import asyncio

import structlog
from aiomqtt import ProtocolVersion

from gatewayd.mqtt.connection import Connection

log = structlog.get_logger()


class Subscriptions:
    """Wanted and held subscriptions, across as many connections as there are. `changed` asks for `apply`."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._wanted: frozenset[str] | None = None
        self._held: set[str] = set()
        self._asked: set[str] = set()
        self._stale: set[str] = set()
        self._to_all = False

    @property
    def wanted(self) -> frozenset[str]:
        """The topics to be subscribed to."""
        return self._wanted or frozenset()

    @property
    def held(self) -> frozenset[str]:
        """What the broker has granted, as far as we know."""
        return frozenset(self._held)

    def want(self, topics: frozenset[str]) -> None:
        """Say which topics to be subscribed to."""
        self._wanted = topics
        self.changed.set()

    def ask_again(self, topic: str) -> None:
        """Let the broker send a topic's retained message once more, if it has one."""
        self._stale.add(topic)
        self.changed.set()

    def ask_for_all_again(self) -> None:
        """Let the broker send all retained messages once more."""
        self._asked.clear()
        self._to_all = True
        self.changed.set()

    def begin(self, connection: Connection) -> None:
        """Take note of a new connection."""
        if not connection.session_present:
            self._held.clear()
            self._asked.clear()
        self._to_all = connection.protocol is ProtocolVersion.V5

    async def apply(self, connection: Connection) -> None:
        """Make what the broker holds what is wanted. Raises BrokerError at the end of the connection."""
        self.changed.clear()
        wanted = self.wanted
        if gone := (self._held - wanted) | self._stale:
            await self._unsubscribe(connection, gone)
        new = wanted if self._to_all else wanted - self._held
        asked = new & self._asked
        await self._subscribe(connection, new - asked, replay_retained=True)
        await self._subscribe(connection, asked, replay_retained=False)
        self._to_all = False

    async def _unsubscribe(self, connection: Connection, topics: set[str]) -> None:
        await connection.unsubscribe(sorted(topics))
        self._held -= topics
        self._asked -= topics
        self._stale -= topics
        log.info("unsubscribed", topics=sorted(topics))

    async def _subscribe(
        self, connection: Connection, topics: frozenset[str], *, replay_retained: bool
    ) -> None:
        if not topics:
            return
        refused = await connection.subscribe(sorted(topics), replay_retained=replay_retained)
        granted = topics.difference(refused)
        self._held.difference_update(refused)
        self._held |= granted
        self._asked |= granted
        for topic, reason in refused.items():
            log.error(
                "the broker refuses a subscription",
                topic=topic,
                code="subscription_refused",
                reason=f"{reason}; check the broker's access rules (tried again with the next connection)",
            )
        if granted:
            log.info("subscribed", topics=sorted(granted))
