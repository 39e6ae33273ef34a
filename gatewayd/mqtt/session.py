"""The gateway's lasting session with the broker, across as many connections as it takes.

Theory of operation. The broker keeps a session for our client id: subscriptions, and messages not yet
acknowledged. A message is acknowledged after `on_message` returned, so whatever happens before that, it comes
again.

    on_message            what happens
    returns               acknowledged
    FirmwareError         refused for good: logged, acknowledged
    anything else         not acknowledged: kept, and tried again after a back-off
    the connection ends   `on_message` is cancelled; the message comes again with the next connection

`subscriptions.py` decides which topics the broker's session holds and which retained messages come. Another
client of our name may have acknowledged our messages: when we were thrown out, and then hold out for long
enough to be alone, the retained ones come again. The awkward case is a new process with an old session: the
broker may hold topics nobody wants any more. They show when a message comes: it is dropped, and the topic
unsubscribed, even when it is wanted again a moment later, so that the new subscription brings the retained
message back.

Nothing connects before the first `set_topics`: until then stale topics cannot be told from wanted ones.

With `connect: {every: …, wait: …}` a connection ends after `wait` without a message (see `duty_cycle`): it
publishes `sleeping` and sends DISCONNECT, so the broker does not publish the last will. A message that begins
to arrive keeps the connection open; one that is cut off was not acknowledged, and is sent again.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

import structlog
from aiomqtt import ProtocolVersion

from gatewayd.codes import Code
from gatewayd.config import Mqtt
from gatewayd.errors import FirmwareError
from gatewayd.mqtt.connection import (
    STEADY_S,
    BackOff,
    Connection,
    IncomingMessage,
    connect,
)
from gatewayd.mqtt.duty_cycle import Visits
from gatewayd.mqtt.exchange import Exchange
from gatewayd.mqtt.inbox import Inbox
from gatewayd.mqtt.left_out import Request
from gatewayd.mqtt.login import PACKET_OVERHEAD_BYTES, SESSION_EXPIRY_S, BrokerError, Login
from gatewayd.mqtt.other_topics import OnCommand, OtherTopics
from gatewayd.mqtt.subscriptions import Subscriptions
from gatewayd.mqtt.topics import GatewayTopics, Presence

__all__ = ["BrokerError", "IncomingMessage", "MqttSession"]

log = structlog.get_logger()

# `offline`, its PUBACK and DISCONNECT; the whole daemon has five seconds to stop.
GOODBYE_S = 2.0
# How many requests are named where a connection ended before they were answered.
SHOWN_SUSPECTS = 3
MIB = 1024 * 1024


class _Visited(Exception):  # noqa: N818 - how a visit ends is no error
    """A connection of a metered link has served its purpose."""


class _Flooded(Exception):  # noqa: N818 - as above
    """A connection is to be made again after a flood (see qos0.py)."""


class MqttSession:
    """Connects, subscribes, receives, publishes, and starts over; `run` it once.

    `on_connected` is called after each CONNACK, `on_refusal` when `refused_messages` has changed.
    `on_command` takes commands; None: none are listened for. `subscriptions`: those of an earlier session of
    this process with the same broker and client id, if there was one.
    """

    def __init__(  # noqa: PLR0913 - the last three stand for time and chance, and have defaults
        self,
        settings: Mqtt,
        *,
        topics: GatewayTopics,
        on_message: Callable[[IncomingMessage], Awaitable[None]],
        on_connected: Callable[[], None],
        on_refusal: Callable[[], None] = lambda: None,
        on_command: OnCommand | None = None,
        subscriptions: Subscriptions | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._status_topic = topics.status
        self._unusable = settings.unusable
        self._login = Login(
            host=settings.host,
            port=settings.port,
            client_id=settings.client_id,
            username=settings.username,
            password=settings.password,
            will=topics.will,
            session_expiry_s=SESSION_EXPIRY_S,
            max_packet_bytes=settings.max_message_mib * MIB + PACKET_OVERHEAD_BYTES,
            qos_0_bytes=settings.max_message_mib * MIB + 1,
            qos_0_waiting_bytes=2 * (settings.max_message_mib * MIB + PACKET_OVERHEAD_BYTES),
            trust=settings.trust,
        )
        self._on_connected = on_connected
        self._on_refusal = on_refusal
        self._subscriptions = subscriptions or Subscriptions(clock)
        self._left_out = self._subscriptions.left_out
        self._sleep = sleep
        self._visits = Visits(settings.connect, sleep=sleep, clock=clock, chance=chance)
        self._other = OtherTopics(topics, self._subscriptions, on_command)
        self._inbox = Inbox(
            self._subscriptions,
            settings.ota_topic,
            on_message=on_message,
            on_refusal=on_refusal,
            coming_in=self._visits.coming_in,
            check=self._subscriptions.check,
            take_other=self._other.take,
            sleep=sleep,
            clock=clock,
            chance=chance,
        )
        self._protocol = ProtocolVersion.V5
        self._connection: Connection | None = None
        self._back_off = BackOff(clock, chance)
        self._may_connect = asyncio.Event()
        self._stopping = False
        self._was_shared = False
        self._lost_in_a_row = 0

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted us and is not known to be gone."""
        return self._connection is not None

    @property
    def next_connection_in_s(self) -> float | None:
        """How long it is until the next connection is due; None unless the session sleeps."""
        return self._visits.next_in_s

    def wake(self) -> None:
        """Connect now if the session sleeps."""
        self._visits.wake()

    @property
    def subscriptions(self) -> Subscriptions:
        """What a later session with the same broker and client id goes on with."""
        return self._subscriptions

    @property
    def subscribed_topics(self) -> frozenset[str]:
        """What the broker has granted, as far as we know."""
        return self._subscriptions.held

    @property
    def refused_messages(self) -> dict[str, FirmwareError]:
        """Topics whose last message was refused, and why."""
        return self._inbox.refused

    @property
    def left_out(self) -> dict[str, BrokerError]:
        """Topics that the broker lets us not read, or not write, and why."""
        wanted = {*self._subscriptions.wanted}
        errors = self._left_out.errors.items()
        return {one.topic: error for one, error in errors if one.kind == "publish" or one.topic in wanted}

    def set_topics(self, topics: frozenset[str]) -> None:
        """Say which topics to be subscribed to; the first call lets `run` connect."""
        self._subscriptions.want(topics)
        self._may_connect.set()

    def ask_again(self, topic: str) -> None:
        """Let the broker send a topic's retained message once more, if it has one."""
        self._subscriptions.ask_again(topic)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish at QoS 1 and wait for PUBACK.

        Raises BrokerError `publish_refused` when the broker says no, `not_connected` when it cannot be asked.
        """
        if self._connection is None:
            raise BrokerError(f"there is no connection to the broker at {self._login.host}")
        try:
            with self._visits.leaving():
                await self._publish(self._connection, topic, payload, retain=retain)
        except BrokerError as error:
            if error.code == Code.PUBLISH_REFUSED:
                raise
            raise BrokerError(error.message) from None

    async def retained(self, topic_filter: str) -> frozenset[str]:
        """Return the topics that match and where something is retained. Raises BrokerError."""
        with self._visits.leaving():
            return await self._other.retained(topic_filter, self._sleep)

    async def _publish(
        self, connection: Connection, topic: str, payload: bytes, *, retain: bool = True
    ) -> None:
        request = Request("publish", topic)
        if (error := self._left_out.error_of(request)) is not None:
            raise error
        async with self._left_out.asking(connection, [request]):
            await connection.publish(topic, payload, retain=retain)

    async def run(self) -> None:
        """Stay connected until cancelled; then it publishes `offline` and disconnects within two seconds."""
        # A task of its own and a flag: in Python before 3.13 a cancellation that comes together with the end
        # of a connection is lost, in asyncio.TaskGroup and in asyncio.wait_for.
        keeping = asyncio.create_task(self._keep_connected(), name="mqtt: session")
        try:
            await asyncio.wait([keeping])
        except asyncio.CancelledError:
            self._stopping = True
            keeping.cancel()
            await asyncio.wait([keeping])
            raise
        keeping.result()

    async def _keep_connected(self) -> None:
        await self._may_connect.wait()
        while not self._stopping:
            try:
                await self._connect_and_serve()
            except _Flooded:
                log.warning(
                    "connecting again after a flood of messages with QoS 0",
                    code="qos0_flood",
                    reason="the broker may have dropped others that it counts as sent",
                )
            except BrokerError as error:
                if not self._stopping:
                    await self._pause(error)
            else:
                self._back_off.reset()
                if not self._stopping:  # unless that came together with the connection's end
                    await self._visits.until_due()

    async def _pause(self, error: BrokerError) -> None:
        wait_s, is_again = self._back_off.after(error)
        is_lost, is_taken_over = error.code == Code.CONNECTION_LOST, error.code == Code.TAKEN_OVER
        self._lost_in_a_row = self._lost_in_a_row + 1 if is_lost or is_taken_over else 0
        reason = str(error)
        if suspects := self._left_out.suspects:
            reason += f"; it came before the answer to {', '.join(map(str, suspects[:SHOWN_SUSPECTS]))}"
        if is_again and self._lost_in_a_row > 1:
            # Not every broker says why: mosquitto 2.0 just closes when a session is taken over.
            reason += "; again, and soon: is that forbidden, or" if suspects else "; again, and soon:"
            reason += f" is there another client with id {self._login.client_id}?"
        # Only what the broker says for certain: asking for every image again is dear on a line that flaps.
        self._was_shared |= error.code == Code.TAKEN_OVER
        log.warning("no connection to the broker", code=error.code, reason=reason, retry_in_s=round(wait_s))
        await self._sleep(wait_s)

    async def _connect_and_serve(self) -> None:
        """Return when the connection has served its purpose. Raises BrokerError or _Flooded."""
        if self._unusable:
            raise BrokerError(self._unusable, code="login_unusable")
        connection = await connect(self._login, self._protocol)
        self._protocol = connection.protocol
        self._back_off.connected()
        self._left_out.begin()
        self._connection = connection
        try:
            self._tell_connected(connection)
            if self._stopping:
                raise asyncio.CancelledError  # noqa: TRY301 - it came while connecting; see below
            self._on_connected()
            await self._serve(connection)
        except _Visited:
            await self._disconnect(connection)
        except _Flooded:
            await self._disconnect(connection)
            raise
        except BrokerError as error:
            was_closed = error.code == Code.CONNECTION_LOST and not connection.was_silent
            if self._left_out.ended(was_closed=was_closed):
                self._back_off.reset()
                self._on_refusal()
            raise
        except asyncio.CancelledError:
            await self._say_goodbye(connection)
            raise
        finally:
            self._connection = None
            connection.drop()

    def _tell_connected(self, connection: Connection) -> None:
        log.info(
            "connected to the broker",
            host=self._login.host,
            mqtt="5" if connection.protocol is ProtocolVersion.V5 else "3.1.1",
            session="kept" if connection.session_present else "new",
        )
        if self._visits.outlast(connection.session_expiry_s):
            log.warning(
                "the broker does not keep our session until the next connection",
                code="short_session",
                reason=f"it keeps it for {connection.session_expiry_s} s, so only retained messages come for"
                " certain; shorten mqtt.connect.every, or lift the broker's limit",
            )

    async def _serve(self, connection: Connection) -> NoReturn:
        """Raises _Visited, _Flooded or BrokerError."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.ended(), name="mqtt: end")
                tasks.create_task(connection.watch_progress(self._sleep), name="mqtt: progress")
                tasks.create_task(self._say(connection, Presence.ONLINE), name="mqtt: online")
                tasks.create_task(self._keep_subscribed(connection), name="mqtt: subscribe")
                tasks.create_task(self._inbox.receive(connection), name="mqtt: receive")
                tasks.create_task(self._inbox.report_dropped(connection), name="mqtt: dropped")
                tasks.create_task(self._watch_floods(connection), name="mqtt: floods")
                tasks.create_task(self._retry_left_out(connection), name="mqtt: left out")
                tasks.create_task(self._other.serve(self._exchange(connection)), name="mqtt: other topics")
                if (check := self._subscriptions.check) is not None:
                    found = self._exchange(connection).compare(check, self._visits.coming_in, self._sleep)
                    tasks.create_task(found, name="mqtt: check")
                if self._was_shared:
                    tasks.create_task(self._ask_again(), name="mqtt: ask again")
                if self._visits.are_limited:
                    tasks.create_task(self._visit(connection), name="mqtt: visit")
        except* (BrokerError, _Visited, _Flooded) as ends:
            first: BaseException = ends
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
        raise first

    def _exchange(self, connection: Connection) -> Exchange:
        return Exchange(connection, self._inbox, self._subscriptions, self._publish)

    async def _visit(self, connection: Connection) -> NoReturn:
        """Raise _Visited when there is nothing left to do, and the broker knows that we sleep."""
        self._visits.begin()
        while True:
            await self._visits.until_quiet(connection)
            await self._say(connection, Presence.SLEEPING)
            if self._visits.is_quiet(connection):
                self._visits.end()
                raise _Visited
            await self._say(connection, Presence.ONLINE)

    async def _say(self, connection: Connection, presence: Presence) -> None:
        try:
            await self._publish(connection, self._status_topic, presence.payload)
        except BrokerError as error:
            if error.code != Code.PUBLISH_REFUSED:
                raise
            log.warning("the broker refuses our status", topic=self._status_topic, reason=str(error))

    async def _disconnect(self, connection: Connection) -> None:
        self._connection = None  # what somebody publishes from here on would be cut off
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await connection.close()

    async def _say_goodbye(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(GOODBYE_S):
                if self._subscriptions.check is not None:
                    await self._subscriptions.check.conclude(self._exchange(connection))
                if self._left_out.error_of(Request("publish", self._status_topic)) is None:
                    await connection.publish(self._status_topic, Presence.OFFLINE.payload, retain=True)
                await connection.close()
        except (BrokerError, TimeoutError):
            log.info("disconnected before `offline` was confirmed; the broker will publish the last will")

    async def _ask_again(self) -> None:
        """Have retained messages come again: the client that took our place may have acknowledged them."""
        with self._visits.coming_in():
            await self._sleep(STEADY_S)
            log.info("alone again; asking for all retained messages")
            self._was_shared = False
            self._subscriptions.ask_for_all_again()

    async def _keep_subscribed(self, connection: Connection) -> None:
        self._subscriptions.begin(connection)
        while True:
            with self._visits.coming_in():
                await self._subscriptions.apply(connection)
            await self._subscriptions.changed.wait()

    async def _retry_left_out(self, connection: Connection) -> NoReturn:
        """Ask for what was left out once it is due again."""
        while True:
            await self._left_out.until_due(self._sleep)
            self._subscriptions.changed.set()
            await self._say(connection, Presence.ONLINE)
            self._on_connected()

    async def _watch_floods(self, connection: Connection) -> NoReturn:
        await connection.until_flooded(self._sleep)
        raise _Flooded
