"""One connection to the broker, from CONNECT to its end.

This file, login.py and paho_callbacks.py are the only ones that use aiomqtt.

aiomqtt gives paho an event loop. Acknowledgements are manual: paho's own go out before anything is stored.
Every connection is a new client: a packet identifier means nothing on another connection, so an
acknowledgement must not be able to reach one. Nothing here waits with a time limit once connected: an answer
may queue behind an image of many MiB on a slow line. A wait ends with the connection: keepalive detects
silence, and `watch_progress` a line that only trickles.
"""

import contextlib
import ssl
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any, NoReturn

import aiomqtt
from aiomqtt import ProtocolVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from gatewayd.back_off import back_off_s
from gatewayd.codes import AttemptEffect, Code, meaning
from gatewayd.mqtt.login import (
    FAILURE,
    PACKET_TOO_LARGE,
    BrokerError,
    Login,
    about_will,
    make_client,
    refusal,
)
from gatewayd.mqtt.paho_callbacks import Hooks, bound_packets
from gatewayd.mqtt.qos0 import FLOOD_MESSAGES, FLOOD_WINDOW_S
from gatewayd.tls import Facts, TlsError, facts_of, translate_error

# A message in progress must gain this much in each window, or the connection is dropped: 16 MiB then take at
# most two days, and a phone at the edge of its cell is still faster.
STALL_WINDOW_S = 20.0
STALL_MIN_BYTES = 2048

# Beside topic and payload of a PUBLISH: its fixed header, the topic's length, packet id, and no properties.
AROUND_TOPIC_BYTES = 5 + 2 + 2 + 1

# The longest wait between two tries: an operator who has repaired the broker should not have to wait longer.
MAX_BACK_OFF_S = 60.0
# After a connection that lasted this long the back-off starts over. Longer than any back-off, so that two
# gateways with one client id, which disconnect each other in turn, do keep backing off.
STEADY_S = 120.0
# Errors that a quick retry cannot fix: back off for the longest time immediately.
HOPELESS_FAILURES = 5


class BackOff:
    """How long to wait before the next connection, by how the last ones ended."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock, self._chance = clock, chance
        self._failures = 0
        self._connected_at: float | None = None

    def connected(self) -> None:
        """Note that a connection was made."""
        self._connected_at = self._clock()

    def reset(self) -> None:
        """Note that the last connection ended as it should."""
        self._failures, self._connected_at = 0, None

    def after(self, error: BrokerError) -> tuple[float, bool]:
        """Return the seconds to wait, and whether several connections in a row were lost."""
        since, self._connected_at = self._connected_at, None
        if since is not None and self._clock() - since >= STEADY_S:
            self._failures = 0
        if meaning(error.code).attempt is AttemptEffect.FINAL:
            self._failures = max(self._failures, HOPELESS_FAILURES)
        is_again = since is not None and self._failures > 0
        self._failures += 1
        wait_s = back_off_s(self._failures, self._chance(), longest_s=MAX_BACK_OFF_S)
        return wait_s, is_again


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message as the broker delivered it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message, and the packet identifier that acknowledges it."""

    message: IncomingMessage
    packet_id: int


async def connect(login: Login, protocol: ProtocolVersion = ProtocolVersion.V5) -> "Connection":
    """Connect with MQTT 5, or with 3.1.1 if the broker does not speak 5. Raises BrokerError."""
    try:
        connection = Connection(login, protocol)
    except TlsError as error:
        raise BrokerError(error.message, code=error.code, hint=error.hint) from None
    try:
        await connection.open()
    except BrokerError as error:
        if protocol is not ProtocolVersion.V5 or not meaning(error.code).suggests_older_mqtt:
            raise
        try:
            return await connect(login, ProtocolVersion.V311)
        except BrokerError as second:
            raise (second if error.code == Code.PROTOCOL_REFUSED else error) from None
    return connection


class Connection:
    """One connection. It cannot be used again once `open` has raised or `close` has returned."""

    def __init__(self, login: Login, protocol: ProtocolVersion) -> None:
        self.login = login
        self.protocol = protocol
        self._client = make_client(login, protocol)
        self._hooks = Hooks(self._client, login)
        self._messages = self._client.messages
        if login.max_packet_bytes:
            bound_packets(self._client, login.max_packet_bytes)

    @property
    def session_present(self) -> bool:
        """Whether the broker had kept our session, with its subscriptions."""
        return self._hooks.session_present

    @property
    def tls(self) -> Facts | None:
        """The broker's certificate and the TLS parameters; None without TLS."""
        connection = self._hooks.socket
        return facts_of(connection) if isinstance(connection, ssl.SSLSocket) else None

    @property
    def session_expiry_s(self) -> int | None:
        """How long the broker keeps our session, if it says that this differs from what was requested."""
        return self._hooks.session_expiry_s

    @property
    def messages_in(self) -> int:
        """How many messages were received completely."""
        return self._hooks.messages_in

    @property
    def received_of_packet_bytes(self) -> int:
        """How much of an incoming packet was received so far, header included; 0 between packets."""
        return self._hooks.received_of_packet_bytes

    @property
    def was_silent(self) -> bool:
        """Whether it ended because nothing was heard for too long, and not because it was closed."""
        return self._hooks.was_silent

    def check_is_open(self) -> None:
        """Raise BrokerError if the connection has ended."""
        if self._hooks.has_ended:
            raise self._hooks.end()

    async def until_flooded(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Return when a flood of QoS 0 may have made the broker drop what it counts as in flight."""
        is_flooded = False
        while not is_flooded or self._hooks.is_receiving_acknowledged:
            before = self._hooks.qos_0.messages
            await sleep(FLOOD_WINDOW_S)
            is_flooded = self._hooks.qos_0.messages - before >= FLOOD_MESSAGES

    async def open(self) -> None:
        """Send CONNECT and wait for CONNACK. Raises BrokerError."""
        where, port = f"{self.login.host}:{self.login.port}", "with" if self.login.trust else "without"
        try:
            await self._client.__aenter__()
        except aiomqtt.MqttCodeError as error:
            self._drop()
            raise refusal(error.rc, self.login) from None
        except (aiomqtt.MqttError, ValueError) as error:  # ValueError: an invalid host name
            self._drop()
            self._raise_tls_error(error, where)
            self._raise_other_protocol(where, port, is_late=str(error) == "Operation timed out")
            raise BrokerError(
                f"{where} cannot be reached: {error}",
                code="broker_unreachable",
                hint="is the broker running, and are mqtt.host and mqtt.port right?",
            ) from None
        except BaseException:
            self._hooks.abandon()
            self._drop()
            raise

    def _raise_other_protocol(self, where: str, port: str, *, is_late: bool) -> None:
        """Raise BrokerError if what was reached does not answer as a broker does."""
        if self._hooks.is_http:
            raise BrokerError(
                f"{where} speaks HTTP: it is the broker's websocket port, or a web server",
                code="websocket_port",
                hint=f"set mqtt.port to the broker's port for MQTT {port} TLS",
            ) from None
        if self._hooks.closed_before_connack or is_late:
            is_closed, will = self._hooks.closed_before_connack, self.login.will
            hint = f"is that an MQTT broker, and is mqtt.port the one {port} TLS, not for websockets?"
            raise BrokerError(
                f"{where} takes the connection {'and closes it at' if is_closed else 'but does not answer'}"
                " CONNECT",
                code="no_connack",
                hint=f"{hint} Or {about_will(will)}" if will and is_closed else hint,
            ) from None

    def _raise_tls_error(self, error: Exception, where: str) -> None:
        """Raise BrokerError if TLS failed: aiomqtt keeps only the text of the error."""
        if self.login.trust is None:
            return
        for cause in (error, error.__context__, self._hooks.tls_error):
            if cause is not None and (found := translate_error(cause, where, datetime.now(UTC))):
                raise BrokerError(found.message, code=found.code, hint=found.hint) from None

    async def receive(self) -> Delivery:
        """Wait for the next message. Raises BrokerError when the connection ends."""
        try:
            message = await anext(self._messages)
        except aiomqtt.MqttError:
            raise self._hooks.end() from None
        payload = message.payload if isinstance(message.payload, bytes) else b""
        if message.qos == 0:
            self._hooks.qos_0.release(message.topic.value, len(payload))
        return Delivery(
            IncomingMessage(message.topic.value, payload, message.qos, message.retain), message.mid
        )

    def report_dropped(self) -> set[str]:
        """Log which messages with QoS 0 were dropped; return topics whose retained message was among them."""
        return self._hooks.qos_0.report()

    def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge the message. Does nothing once the connection has ended."""
        if delivery.message.qos:
            self._hooks.acknowledge(delivery.packet_id, delivery.message.qos)

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish at QoS 1 and wait for PUBACK. Raises BrokerError, `publish_refused` for a refusal."""
        reason = await self._hooks.publish(topic, payload, retain=retain)
        if reason.value == PACKET_TOO_LARGE:
            raise self._too_large(topic, len(payload), "it refuses a message of that size")
        if reason.value >= FAILURE:
            raise BrokerError(
                f"the broker refuses a message on {topic}: {reason}",
                code="publish_refused",
                hint="check the broker's access rules",
            )

    def check_packet(self, topic: str, payload: bytes) -> None:
        """Raise BrokerError `exceeds_broker_limit` above the limit that the broker announced."""
        limit = self._hooks.max_packet_bytes
        if limit is not None and len(payload) + len(topic.encode()) + AROUND_TOPIC_BYTES > limit:
            raise self._too_large(topic, len(payload), f"it takes packets of {limit} bytes at most")

    def leave_nothing_behind(self) -> None:
        """Let DISCONNECT also end our session (MQTT 5)."""
        self._hooks.end_session_on_disconnect()

    def _too_large(self, topic: str, size_bytes: int, why: str) -> BrokerError:
        return BrokerError(
            f"{size_bytes} bytes on {topic} are too large for the broker at {self.login.host}: {why}",
            code="exceeds_broker_limit",
            hint="raise the broker's limit (mosquitto: max_packet_size, message_size_limit)",
        )

    async def look_at(self, topics: Collection[str]) -> dict[str, str]:
        """Subscribe at QoS 0: all retained messages come without waiting for each other, but may be lost.

        With many retained messages nothing else works: at QoS 1 mosquitto (2.0.11) queues the first 1,000 and
        drops the rest, and with one message in flight each takes a round trip. Returns what `subscribe` does.
        """
        return await self._subscribe(topics, retain_handling=0, qos=0)

    async def subscribe(self, topics: Collection[str], *, replay_retained: bool) -> dict[str, str]:
        """Subscribe at QoS 1, in one packet; return the topics that were refused, with reasons.

        QoS 2 would be acknowledged on receipt. Without `replay_retained` the broker sends retained messages
        only for new subscriptions (MQTT 5; with 3.1.1 it always sends them).
        """
        return await self._subscribe(topics, retain_handling=0 if replay_retained else 1)

    async def try_subscribing(self, topics: Collection[str]) -> dict[str, str]:
        """Subscribe only to learn what is refused: no retained message comes (MQTT 5)."""
        return await self._subscribe(topics, retain_handling=2)

    async def unsubscribe(self, topics: Collection[str]) -> None:
        """Unsubscribe from all of `topics` in one packet."""
        await self._answer(self._client.unsubscribe(list(topics), timeout=inf))

    async def ended(self) -> NoReturn:
        """Wait for the end of the connection, then raise BrokerError with the cause."""
        await self._hooks.until_ended()
        raise self._hooks.end()

    async def watch_progress(self, sleep: Callable[[float], Awaitable[None]]) -> NoReturn:
        """Raise BrokerError `stalled` when an incoming message stops growing: keepalive does not notice."""
        messages, received_bytes = 0, 0
        while True:
            await sleep(STALL_WINDOW_S)
            now_bytes = self.received_of_packet_bytes
            gained_bytes = now_bytes - received_bytes
            if (
                self.messages_in == messages
                and received_bytes
                and now_bytes
                and gained_bytes < STALL_MIN_BYTES
            ):
                raise BrokerError(
                    f"a message stopped coming in at {now_bytes} bytes: {gained_bytes} came in the last"
                    f" {STALL_WINDOW_S:.0f} s, expected {STALL_MIN_BYTES}",
                    code="stalled",
                )
            messages, received_bytes = self.messages_in, now_bytes
            if now_bytes:
                self._hooks.excuse_pingresp()

    async def close(self) -> None:
        """Disconnect; the broker then does not publish the last will. Never raises."""
        with contextlib.suppress(Exception):  # `ended` has reported why the connection ended
            await self._client.__aexit__(None, None, None)
        self._drop()

    def drop(self) -> None:
        """Cut the connection without DISCONNECT, as a crash would: the broker publishes the last will."""
        self._drop()

    async def _subscribe(self, topics: Collection[str], retain_handling: int, qos: int = 1) -> dict[str, str]:
        wanted = list(topics)
        if self.protocol is ProtocolVersion.V5:
            options = SubscribeOptions(qos=qos, retainAsPublished=True, retainHandling=retain_handling)
            codes = await self._answer(
                self._client.subscribe([(topic, options) for topic in wanted], timeout=inf)
            )
        else:
            codes = await self._answer(
                self._client.subscribe([(topic, qos) for topic in wanted], timeout=inf)
            )
        answers = zip(wanted, codes, strict=True)
        return {topic: str(code) for topic, code in answers if getattr(code, "value", code) >= FAILURE}

    async def _answer(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except aiomqtt.MqttError:
            raise self._hooks.end() from None

    def _drop(self) -> None:
        """Close the socket: after a failure aiomqtt leaves it open and registered with the event loop."""
        self._hooks.close_socket()
        self._hooks.finish()
