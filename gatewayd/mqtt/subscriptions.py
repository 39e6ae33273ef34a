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
import time
from collections.abc import Callable, Collection

import structlog
from aiomqtt import ProtocolVersion

from gatewayd.codes import Code
from gatewayd.errors import FirmwareError
from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.left_out import LeftOut, Request
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.retained_check import RetainedCheck
from gatewayd.ota.topic_levels import subscribed_as

log = structlog.get_logger()


class AmbiguousTopicError(FirmwareError):
    """A message may have been published on any of several topics that we follow."""

    default_code = "ambiguous_topic"

    def __init__(self, topic: str, candidates: list[str]) -> None:
        super().__init__(
            f"a message came on {topic}, which may be {' or '.join(candidates)}: this broker takes a dot"
            " for a level",
            hint="give the applications ids without dots, or mqtt.ota_topic another form",
        )
        self.candidates = candidates


class Subscriptions:
    """Wanted and held subscriptions, across as many connections as there are. `changed` asks for `apply`.

    `left_out` has what the broker does not grant now; `check`, if there is one, hears what is asked for.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, check: RetainedCheck | None = None
    ) -> None:
        self.check = check
        self.left_out = LeftOut(clock)
        self.changed = asyncio.Event()
        self._wanted: frozenset[str] | None = None
        self._held: set[str] = set()
        self._asked: set[str] = set()
        self._stale: set[str] = set()
        self._to_all = False
        self._dots_are_levels = False

    @property
    def wanted(self) -> frozenset[str]:
        """The topics to be subscribed to."""
        return self._wanted or frozenset()

    @property
    def held(self) -> frozenset[str]:
        """What the broker has granted, as far as we know."""
        return frozenset(self._held)

    def wanted_as(self, topic: str) -> str | None:
        """Return the wanted topic that a message on `topic` was published on; None: nobody wants it.

        Raises AmbiguousTopicError where that cannot be told.
        """
        candidates = subscribed_as(topic, self.wanted)
        is_exact = topic in self.wanted
        if is_exact and not (candidates and self._dots_are_levels):
            return topic
        if is_exact or len(candidates) > 1:
            raise AmbiguousTopicError(topic, [*([topic] if is_exact else []), *candidates])
        if not candidates:
            return None
        if not self._dots_are_levels:
            log.info("this broker takes a dot for a level", topic=candidates[0], arrives_as=topic)
            self._dots_are_levels = True
        return candidates[0]

    def want(self, topics: frozenset[str]) -> None:
        """Say which topics to be subscribed to."""
        self._wanted = topics
        if self.check is not None:
            self.check.want(topics)
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
        if self.check is not None:
            self._held -= self.check.pending
            self._asked -= self.check.pending
            self.check.begin()
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

    async def replay(self, connection: Connection, topics: Collection[str]) -> None:
        """Have what is retained on topics come once more; these need not be wanted ones."""
        for batch in self._batches(topics):
            async with self.left_out.asking(connection, [_request(one) for one in batch]) as noes:
                refused = await connection.subscribe(batch, replay_retained=True)
                noes.update(map(_request, refused))
            for topic, reason in refused.items():
                self._refused(topic, reason)

    async def _unsubscribe(self, connection: Connection, topics: set[str]) -> None:
        await connection.unsubscribe(sorted(topics))
        self._held -= topics
        self._asked -= topics
        self._stale -= topics
        log.info("unsubscribed", topics=sorted(topics))

    async def _subscribe(
        self, connection: Connection, topics: frozenset[str], *, replay_retained: bool
    ) -> None:
        for batch in self._batches(topics):
            if self.check is not None and replay_retained:
                self.check.asked(batch)
            async with self.left_out.asking(connection, [_request(one) for one in batch]) as noes:
                refused = await connection.subscribe(batch, replay_retained=replay_retained)
                noes.update(map(_request, refused))
            granted = set(batch).difference(refused)
            self._held.difference_update(refused)
            self._held |= granted
            self._asked |= granted
            for topic, reason in refused.items():
                self._refused(topic, reason)
            if granted:
                log.info("subscribed", topics=sorted(granted))

    def _batches(self, topics: Collection[str]) -> list[list[str]]:
        """What may be asked for, and what of it in one packet."""
        allowed = [one for one in sorted(topics) if self.left_out.error_of(_request(one)) is None]
        if self.check is not None:
            self.check.refused(set(topics).difference(allowed))
        if self.left_out.is_careful:
            return [[one] for one in allowed]
        return [allowed] if allowed else []

    def _refused(self, topic: str, reason: str) -> None:
        if self.check is not None:
            self.check.refused([topic])
        error = BrokerError(
            f"the broker refuses a subscription to {topic}: {reason}",
            code=Code.SUBSCRIPTION_REFUSED,
            hint="check the broker's access rules",
        )
        self.left_out.refused(_request(topic), error)
        log.error(
            "the broker refuses a subscription",
            topic=topic,
            code="subscription_refused",
            reason=f"{reason}; check the broker's access rules (it is tried again later)",
        )


def _request(topic: str) -> Request:
    return Request("subscribe", topic)
