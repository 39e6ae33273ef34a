"""Callbacks of paho, wrapped before aiomqtt sees them, and all other access to private parts of the two.

aiomqtt does not pass on whether the broker had kept our session, why a connection ended, that it ended before
CONNACK (aiomqtt would wait for its time limit), or the reason code of a PUBACK. Callbacks run on the event
loop, except for a failure inside connect(), which runs in a thread of its own.

No other file uses private names of aiomqtt or paho, and a test checks that those used here still exist.
"""

import asyncio
import functools
import ssl
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.mqtt.login import PACKET_TOO_LARGE, BrokerError, Login, ending
from gatewayd.mqtt.qos0 import Qos0Budget

# Per read: large enough for speed, small enough not to hold up the event loop.
READ_BYTES = 256 * 1024
# A refusal that the protocol allows in PUBACK, and therefore paho too.
_QUOTA_EXCEEDED = 0x97
_KEEPALIVE_TIMEOUT = 0x8D
_PUBLISH, _QOS_BITS = 3, 0x06


def bound_packets(client: aiomqtt.Client, limit_bytes: int) -> None:
    """Keep only the first `limit_bytes` (plus one read) of a packet: the protocol allows 256 MiB."""
    paho: Any = client._client  # noqa: SLF001 - paho collects packets of any size
    receive = paho._sock_recv  # noqa: SLF001 - see above

    def receive_and_trim(size_bytes: int) -> bytes:
        packet: bytearray = paho._in_packet["packet"]  # noqa: SLF001 - see above
        del packet[limit_bytes:]
        received: bytes = receive(min(size_bytes, READ_BYTES))
        return received

    paho._sock_recv = receive_and_trim  # noqa: SLF001 - see above


class Hooks:
    """Wraps the callbacks of a client that is not connected yet."""

    def __init__(self, client: aiomqtt.Client, login: Login) -> None:
        self._client = client
        self._login = login
        self._paho = client._client  # noqa: SLF001 - see the module
        self._loop = asyncio.get_running_loop()
        self._pubacks: dict[int, asyncio.Future[ReasonCode]] = {}
        self._reason: ReasonCode | None = None
        self._inner = (self._paho.on_connect, self._paho.on_disconnect, self._paho.on_message)
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.session_present = False
        self.session_expiry_s: int | None = None
        self.max_packet_bytes: int | None = None
        self.closed_before_connack = False
        self.messages_in = 0
        self.qos_0 = Qos0Budget(login.qos_0_waiting_bytes)
        self.tls_error: ssl.SSLError | None = None
        self.is_beginning = True
        # No packet of a broker begins with "H". "HTTP/1.1 400" does; paho reads the first byte alone.
        self.is_http = False
        self._paho.manual_ack_set(True)
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._paho.on_socket_register_write = self._on_socket_register_write
        self._note_tls_errors()
        self._understand_size_refusals()

    def end(self) -> BrokerError:
        """Return why the connection ended."""
        broken = self._client._disconnected  # noqa: SLF001 - what broke while the loop was reading or writing
        error = broken.exception() if broken.done() and not broken.cancelled() else None
        return ending(self._reason, error, self._login)

    @property
    def is_receiving_acknowledged(self) -> bool:
        """Whether part of a message is here that is acknowledged: one with QoS 1 or 2."""
        command = int(self._paho._in_packet["command"])  # noqa: SLF001 - see above
        return command >> 4 == _PUBLISH and bool(command & _QOS_BITS)

    @property
    def was_silent(self) -> bool:
        """Whether keepalive ended the connection."""
        return self._reason is not None and self._reason.value == _KEEPALIVE_TIMEOUT

    @property
    def has_ended(self) -> bool:
        """Whether the connection has ended."""
        return self.ended.done() or self._client._disconnected.done()  # noqa: SLF001 - see above

    async def until_ended(self) -> None:
        """Return when the connection has ended; a broken socket shows only in aiomqtt's own future."""
        broken = self._client._disconnected  # noqa: SLF001 - see above
        await asyncio.wait([self.ended, broken], return_when=asyncio.FIRST_COMPLETED)

    @property
    def socket(self) -> Any:
        """The connection's socket, as paho wraps it; None without one."""
        return self._paho.socket()

    @property
    def received_of_packet_bytes(self) -> int:
        """How much of an incoming packet was received so far, header included; 0 between packets."""
        packet: Any = self._paho._in_packet  # noqa: SLF001 - not available elsewhere
        if not packet["command"]:
            return 0
        body_bytes = packet["remaining_length"] - packet["to_process"] if packet["have_remaining"] else 0
        return 1 + len(packet["remaining_count"]) + int(body_bytes)

    def acknowledge(self, packet_id: int, qos: int) -> None:
        """Tell the broker that it may forget a message."""
        self._paho.ack(packet_id, qos)

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> ReasonCode:
        """Publish at QoS 1; return the reason code of PUBACK. Raises BrokerError."""
        info = self._paho.publish(topic, payload, qos=1, retain=retain)
        if info.rc:
            raise self.end()
        answer: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._pubacks[info.mid] = answer
        try:
            return await answer
        finally:
            self._pubacks.pop(info.mid, None)

    def excuse_pingresp(self) -> None:
        """Allow PINGRESP to be late: paho 2.1 gives up on one that is queued behind an incoming image."""
        self._paho._ping_t = 0.0  # noqa: SLF001 - see above

    def end_session_on_disconnect(self) -> None:
        """Let the DISCONNECT that aiomqtt sends also end the session."""
        make: Any = Properties  # untyped, and its attributes are made up at run time
        properties = make(PacketTypes.DISCONNECT)
        properties.SessionExpiryInterval = 0
        paho: Any = self._paho
        paho.disconnect = functools.partial(self._paho.disconnect, properties=properties)

    def close_socket(self) -> None:
        """Close the socket with the one call that also removes it from the event loop."""
        self._paho._sock_close()  # noqa: SLF001 - see above

    def abandon(self) -> None:
        """Close any socket that connect() may still open: it cannot be stopped in its thread."""
        self._paho.on_socket_open = lambda _client, _userdata, sock: sock.close()

    def finish(self) -> None:
        """Fail all waiting calls, and retrieve aiomqtt's exceptions, so that asyncio does not complain."""
        if not self.ended.done():
            self.ended.set_result(None)
        for answer in self._pubacks.values():
            if not answer.done():
                answer.set_exception(self.end())
        for outcome in (self._client._connected, self._client._disconnected):  # noqa: SLF001 - see above
            if outcome.done() and not outcome.cancelled():
                outcome.exception()

    def _note_tls_errors(self) -> None:
        """Keep errors that paho reports as "connection lost": TLS 1.3 refuses after our handshake.

        Either reading or writing fails with it, whichever comes first.
        """
        paho: Any = self._paho
        receive, send = paho._sock_recv, paho._sock_send  # noqa: SLF001 - see above

        def receive_and_note(size_bytes: int) -> bytes:
            try:
                received: bytes = receive(size_bytes)
                self.is_http = self.is_http or (self.is_beginning and received.startswith(b"H"))
                self.is_beginning = False
            except ssl.SSLError as error:
                self.tls_error = error
                raise
            return received

        def send_and_note(packet: bytes) -> int:
            try:
                sent: int = send(packet)
            except ssl.SSLError as error:
                self.tls_error = error
                raise
            return sent

        paho._sock_recv = receive_and_note  # noqa: SLF001 - see above
        paho._sock_send = send_and_note  # noqa: SLF001 - see above

    def _understand_size_refusals(self) -> None:
        """Accept a PUBACK with "packet too large": mosquitto sends it, and paho would end the connection."""
        paho: Any = self._paho
        handle = paho._handle_pubackcomp  # noqa: SLF001 - see above

        def handle_size_refusal(kind: str) -> Any:
            packet: bytearray = paho._in_packet["packet"]  # noqa: SLF001 - see above
            if packet[2:3] == bytes([PACKET_TOO_LARGE]):
                reason = ReasonCode(PacketTypes.DISCONNECT, identifier=PACKET_TOO_LARGE)
                self._answer(int.from_bytes(packet[:2], "big"), reason)
                packet[2] = _QUOTA_EXCEEDED
            return handle(kind)

        paho._handle_pubackcomp = handle_size_refusal  # noqa: SLF001 - see above

    def _on_connect(
        self,
        paho: Paho,
        userdata: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.session_present = flags.session_present
        self.session_expiry_s = getattr(properties, "SessionExpiryInterval", None)
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self._call(0, paho, userdata, flags, reason, properties)

    def _on_disconnect(
        self,
        paho: Paho,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._reason = reason
        self._loop.call_soon_threadsafe(self._gone)
        self._call(1, paho, userdata, flags, reason, properties)

    def _on_message(self, paho: Paho, userdata: Any, message: MQTTMessage) -> None:
        self.messages_in += 1
        if message.qos == 0:
            message.payload = message.payload[: self._login.qos_0_bytes]
            if not self.qos_0.admit(message.topic, len(message.payload), is_retained=message.retain):
                return
        self._call(2, paho, userdata, message)

    def _on_publish(
        self, _paho: Paho, _userdata: Any, packet_id: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._answer(packet_id, reason)

    def _answer(self, packet_id: int, reason: ReasonCode) -> None:
        answer = self._pubacks.get(packet_id)
        if answer and not answer.done():
            answer.set_result(reason)

    def _on_socket_register_write(self, paho: Paho, _userdata: Any, sock: Any) -> None:
        """Replace aiomqtt's, which registers a socket that may be closed when the loop uses it."""

        def write() -> None:
            try:
                paho.loop_write()
            except Exception as error:  # noqa: BLE001 - as in aiomqtt: after any failure the connection is broken
                broken = self._client._disconnected  # noqa: SLF001 - see the module
                if not broken.done():
                    broken.set_exception(error)

        def watch() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(watch)

    def _gone(self) -> None:
        connected = self._client._connected  # noqa: SLF001 - aiomqtt would wait for its time limit
        if not connected.done() and not self.ended.done():
            self.closed_before_connack = True
            connected.set_exception(aiomqtt.MqttError("closed before CONNACK"))
        self.finish()

    def _call(self, number: int, *arguments: Any) -> None:
        inner: Any = self._inner[number]
        inner(*arguments)
