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
    Delivery,
    IncomingMessage,
    back_off_s,
    connect,
)
from gatewayd.mqtt.duty_cycle import Visits
from gatewayd.mqtt.login import PACKET_OVERHEAD_BYTES, SESSION_EXPIRY_S, BrokerError, Login
from gatewayd.mqtt.subscriptions import Subscriptions
from gatewayd.mqtt.topics import GatewayTopics, Presence

__all__ = ["BrokerError", "IncomingMessage", "MqttSession"]

log = structlog.get_logger()

# Longest wait before a message is offered to the store again. A person who made room sees it stored within a
# minute, whatever the disk itself adds.
MAX_STORE_BACK_OFF_S = 30.0
# `offline`, its PUBACK and DISCONNECT; the whole daemon has five seconds to stop.
GOODBYE_S = 2.0
MIB = 1024 * 1024


class _Visited(Exception):  # noqa: N818 - how a visit ends is no error
    """A connection of a metered link has served its purpose."""


class MqttSession:
    """Connects, subscribes, receives, publishes, and starts over; `run` it once.

    `on_connected` is called after each CONNACK. `subscriptions`: those of an earlier session of this process
    with the same broker and client id, if there was one.
    """

    def __init__(
        self,
        settings: Mqtt,
        *,
        topics: GatewayTopics,
        on_message: Callable[[IncomingMessage], Awaitable[None]],
        on_connected: Callable[[], None],
        subscriptions: Subscriptions | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._status_topic = topics.status
        self._login = Login(
            host=settings.host,
            port=settings.port,
            client_id=settings.client_id,
            username=settings.username,
            password=settings.password,
            will=topics.will,
            session_expiry_s=SESSION_EXPIRY_S,
            max_packet_bytes=settings.max_message_mib * MIB + PACKET_OVERHEAD_BYTES,
            trust=settings.trust,
        )
        self._on_message = on_message
        self._on_connected = on_connected
        self._subscriptions = subscriptions or Subscriptions()
        self._sleep, self._clock, self._chance = sleep, clock, chance
        self._visits = Visits(settings.connect, sleep=sleep, clock=clock, chance=chance)
        self._protocol = ProtocolVersion.V5
        self._connection: Connection | None = None
        self._back_off = BackOff(clock, chance)
        self._may_connect = asyncio.Event()
        self._stopping = False
        self._refused: dict[str, FirmwareError] = {}
        self._was_shared = False

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
        wanted = self._subscriptions.wanted
        return {topic: error for topic, error in self._refused.items() if topic in wanted}

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
                await self._connection.publish(topic, payload, retain=retain)
        except BrokerError as error:
            if error.code == Code.PUBLISH_REFUSED:
                raise
            raise BrokerError(error.message) from None

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
            except BrokerError as error:
                if not self._stopping:
                    await self._pause(error)
            else:
                self._back_off.reset()
                if not self._stopping:  # unless that came together with the connection's end
                    await self._visits.until_due()

    async def _pause(self, error: BrokerError) -> None:
        wait_s, is_again = self._back_off.after(error)
        reason = str(error)
        if is_again and error.code == Code.CONNECTION_LOST:
            # Not every broker says why: mosquitto 2.0 just closes when a session is taken over.
            reason += f"; again, and soon: is there another client with id {self._login.client_id}?"
        # Only what the broker says for certain: asking for every image again is dear on a line that flaps.
        self._was_shared |= error.code == Code.TAKEN_OVER
        log.warning("no connection to the broker", code=error.code, reason=reason, retry_in_s=round(wait_s))
        await self._sleep(wait_s)

    async def _connect_and_serve(self) -> None:
        """Return when the connection has served its purpose. Raises BrokerError when it ends otherwise."""
        connection = await connect(self._login, self._protocol)
        self._protocol = connection.protocol
        self._back_off.connected()
        self._connection = connection
        try:
            self._tell_connected(connection)
            if self._stopping:
                raise asyncio.CancelledError  # noqa: TRY301 - it came while connecting; see below
            self._on_connected()
            await self._serve(connection)
        except _Visited:
            await self._disconnect(connection)
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
        """Raises _Visited or BrokerError."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.ended(), name="mqtt: end")
                tasks.create_task(connection.watch_progress(self._sleep), name="mqtt: progress")
                tasks.create_task(self._say(connection, Presence.ONLINE), name="mqtt: online")
                tasks.create_task(self._keep_subscribed(connection), name="mqtt: subscribe")
                tasks.create_task(self._receive(connection), name="mqtt: receive")
                if self._was_shared:
                    tasks.create_task(self._ask_again(), name="mqtt: ask again")
                if self._visits.are_limited:
                    tasks.create_task(self._visit(connection), name="mqtt: visit")
        except* (BrokerError, _Visited) as ends:
            first: BaseException = ends
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
        raise first

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
            await connection.publish(self._status_topic, presence.payload, retain=True)
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

    async def _receive(self, connection: Connection) -> None:
        while True:
            delivery = await connection.receive()
            with self._visits.coming_in():
                await self._take(delivery)
            connection.acknowledge(delivery)

    async def _take(self, delivery: Delivery) -> None:
        """Return when the message may be acknowledged."""
        message = delivery.message
        attempt = 0
        while self._is_wanted(message):
            try:
                await self._on_message(message)
            except FirmwareError as error:
                self._refused[message.topic] = error
                log.warning("message refused", topic=message.topic, code=error.code, reason=str(error))
            except Exception as error:
                wait_s = min(MAX_STORE_BACK_OFF_S, back_off_s(attempt, self._chance()))
                log.exception(
                    "message not stored, and not acknowledged: it is kept and tried again",
                    topic=message.topic,
                    code=getattr(error, "code", "internal"),
                    reason=str(error),
                    retry_in_s=round(wait_s),
                )
                await self._sleep(wait_s)
                attempt += 1
                continue
            else:
                self._refused.pop(message.topic, None)
            return

    def _is_wanted(self, message: IncomingMessage) -> bool:
        if message.topic in self._subscriptions.wanted:
            return True
        log.info("message dropped: no device is subscribed to its topic any more", topic=message.topic)
        self._subscriptions.ask_again(message.topic)
        return False
