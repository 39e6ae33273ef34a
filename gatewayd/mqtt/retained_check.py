"""What the broker still retains of the releases that are stored here.

Theory of operation. A release that is withdrawn while the gateway is away leaves no trace: where retained
messages are asked for, its topic just brings nothing. But so does a topic at a broker that lost its memory,
or a node of its cluster. They are told apart by a *marker*, a retained message of ours. It is published
after a release was committed, carries that release's sequence and the identity of the database, and is never
written when connecting. So a broker that has the marker remembers what it had when that release came.

An absence counts only if all of this is so:

- the topic's last release is known to have been retained;
- its sequence is not above that in the marker, and the marker is of this database;
- asking again, with back-off, gave the same.

Then the topic's releases are suspended: shown, not installed, the files kept, until a message comes again.
Whatever is doubtful leaves them as they are. Before the marker is raised, what came after the one that was
found there and was not seen on this connection is no longer taken for retained: the broker may have lost it.

Nothing is asked for a second time while a session lives. So a gateway that sleeps between connections
relies on QoS 1: its broker keeps the empty message of a withdrawal for it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import structlog

from gatewayd.codes import Code
from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.login import BrokerError
from gatewayd.store.retained import Retention

log = structlog.get_logger()

# Retained messages have come when nothing came for this long: brokers send them right after the answer to a
# subscription, and a satellite's round trip is below one second.
SETTLE_S = 3.0
# When to ask again for what brought nothing; a cluster that has lost a node is whole again after seconds.
ASK_AGAIN_S = (10.0, 30.0)
# Updates that were not begun wait this long for the broker's word on a topic, once the topic is followed: a
# broker that is away, or a large message on a slow line before it, must not hold them for ever.
HOLD_S = 45.0


@dataclass(frozen=True, slots=True)
class Marker:
    """What the broker keeps for us: it had our releases up to `sequence`."""

    store_id: str
    sequence: int

    @classmethod
    def parse(cls, payload: bytes) -> Self | None:
        """Read one; None: it is not one of ours."""
        try:
            found = json.loads(payload)
            store_id, sequence = found["store"], found["sequence"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        is_one = isinstance(store_id, str) and isinstance(sequence, int)
        return cls(store_id, sequence) if is_one else None

    def to_bytes(self) -> bytes:
        """As it stands on the topic."""
        return json.dumps({"store": self.store_id, "sequence": self.sequence}).encode()

    def reach(self, retention: Retention) -> int:
        """Up to which sequence of ours it vouches; 0: for nothing."""
        return self.sequence if self.store_id == retention.store_id else 0


class RetentionStore(Protocol):
    """Where it stands what was retained."""

    async def retention(self) -> Retention:
        """What is known of the broker's copies."""
        ...

    async def suspend(self, topics: Collection[str]) -> None:
        """Suspend all releases of these topics."""
        ...

    async def forget_retained(self, above_seq: int, but: Collection[str]) -> None:
        """Forget that releases after `above_seq` were retained, but of these topics."""
        ...


class Exchange(Protocol):
    """What is said to the broker on one connection."""

    @property
    def connection(self) -> Connection:
        """What is seen of it."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether no message is being looked at."""
        ...

    async def replay(self, topics: Collection[str]) -> None:
        """Have what is retained come once more. Raises BrokerError at the end of the connection."""
        ...

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish, retained. Raises BrokerError."""
        ...


class RetainedCheck:
    """Compares what came with what was asked for; it outlives connections. `due` asks for `carry_out`.

    `on_change` is called when topics were confirmed or suspended, or need no longer be waited for.
    `later` calls a function after some seconds, as the event loop does.
    """

    def __init__(
        self,
        store: RetentionStore,
        marker_topic: str,
        *,
        on_change: Callable[[], None],
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._later = later
        self._wanted: frozenset[str] = frozenset()
        self._store = store
        self._topic = marker_topic
        self._on_change = on_change
        self._pending: set[str] = set()
        self._confirmed: set[str] = set()
        self._suspected: frozenset[str] = frozenset()
        self._seen: set[str] = set()
        self._found: Marker | None = None
        self._is_read = self._must_mark = False
        self.due = asyncio.Event()

    @property
    def pending(self) -> frozenset[str]:
        """Topics that were asked for and brought nothing so far."""
        return frozenset(self._pending)

    def is_unconfirmed(self, topic: str) -> bool:
        """Whether an update that was not begun should wait for the broker's word on this topic."""
        return topic in self._suspected or topic not in self._confirmed

    # -- what happens

    def begin(self) -> None:
        """A connection was made."""
        self._seen.clear()
        self._found, self._is_read = None, False
        if self._must_mark:
            self.due.set()

    def want(self, topics: frozenset[str]) -> None:
        """These topics are followed from now on."""
        self._confirmed &= topics
        later = self._later or asyncio.get_running_loop().call_later
        for topic in topics - self._wanted:
            later(HOLD_S, partial(self._waive, topic))
        self._wanted = topics

    def asked(self, topics: Collection[str]) -> None:
        """What is retained on these topics is being asked for."""
        self._pending.update(topics)
        if topics:
            self.due.set()

    def refused(self, topics: Collection[str]) -> None:
        """The broker does not let us read these topics, so nothing can be said of them."""
        self._pending.difference_update(topics)
        self._confirm(topics)

    def came(self, topic: str, *, is_retained: bool) -> None:
        """A message was taken, or refused."""
        self._pending.discard(topic)
        self._suspected -= {topic}
        self._confirm([topic])
        if is_retained:
            self._seen.add(topic)

    def stored(self) -> None:
        """A release was committed."""
        self._must_mark = True
        self.due.set()

    def take_marker(self, topic: str, payload: bytes, *, is_retained: bool) -> bool:
        """Take note of the marker, on its topic or as brokers rewrite that; False: it is another message.

        What is not retained there shows nothing: the doctor's, for instance.
        """
        if topic.replace(".", "/") != self._topic.replace(".", "/"):
            return False
        if is_retained:
            self._found = Marker.parse(payload)
        return True

    def _waive(self, topic: str) -> None:
        self._confirm([topic])

    def _confirm(self, topics: Collection[str]) -> None:
        """Let the updates of these topics begin."""
        if not self._confirmed.issuperset(topics):
            self._confirmed.update(topics)
            self._on_change()

    # -- what is done

    async def carry_out(self, exchange: Exchange, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Do what is due. Raises BrokerError at the end of the connection."""
        self.due.clear()
        if self._pending:
            # Read along with the rest, so that a release which comes now is marked at once.
            await self._read_marker(exchange, sleep)
            await self._judge(exchange, sleep)
        if self._must_mark:
            if not self._is_read:
                await self._read_marker(exchange, sleep)
            await self._mark(exchange)

    async def conclude(self, exchange: Exchange) -> None:
        """Before the connection ends, mark what was committed. Raises BrokerError."""
        if self._must_mark and self._is_read:
            await self._mark(exchange)

    async def _judge(self, exchange: Exchange, sleep: Callable[[float], Awaitable[None]]) -> None:
        absent: frozenset[str] = frozenset()
        for wait_s in (0.0, *ASK_AGAIN_S):
            retention = await self._store.retention()
            silent = self._pending & retention.retained.keys()
            if not silent:
                break
            if wait_s:
                await sleep(wait_s)
                await exchange.replay(sorted(silent))
                await self._read_marker(exchange, sleep)
            reach = self._found.reach(retention) if self._found else 0
            absent = frozenset(one for one in self._pending & silent if retention.retained[one] <= reach)
            self._suspected = absent
            if wait_s and not absent:
                break  # even now there is no marker that vouches for them
        else:
            await self._store.suspend(absent)
            log.warning(
                "suspended: the broker no longer has these messages",
                topics=sorted(absent),
                code=str(Code.NOT_AT_BROKER),
                reason=f"it still has our marker, and brought nothing in {1 + len(ASK_AGAIN_S)} tries;"
                " publish again to go on, or withdraw",
            )
        self._confirmed |= self._pending
        self._pending.clear()
        self._suspected = frozenset()
        self._on_change()

    async def _read_marker(self, exchange: Exchange, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._found = None
        await exchange.replay([self._topic])
        await settle(exchange, sleep)
        self._is_read = True

    async def _mark(self, exchange: Exchange) -> None:
        """Publish the marker. What the one before did not vouch for is retained only if it was seen."""
        retention = await self._store.retention()
        reach = self._found.reach(retention) if self._found else 0
        if retention.newest_seq > reach:
            await self._store.forget_retained(reach, self._seen)
            marker = Marker(retention.store_id, retention.newest_seq)
            try:
                await exchange.publish(self._topic, marker.to_bytes())
            except BrokerError as error:
                if error.code != Code.PUBLISH_REFUSED:
                    raise
                log.warning(
                    "the broker refuses our marker: what is withdrawn while gatewayd is off may go unnoticed",
                    topic=self._topic,
                    code=error.code,
                    reason=str(error),
                )
            else:
                self._found = marker
        self._must_mark = False


async def settle(exchange: Exchange, sleep: Callable[[float], Awaitable[None]]) -> None:
    """Return when nothing has come in for SETTLE_S, and nothing is coming."""
    line, before = exchange.connection, -1
    while not (exchange.is_idle and line.messages_in == before and not line.received_of_packet_bytes):
        before = line.messages_in
        await sleep(SETTLE_S)
