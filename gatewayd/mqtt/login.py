"""The login at the broker, the client made from it, and the broker's refusals as errors."""

import logging
from dataclasses import dataclass
from typing import Any

import aiomqtt
from aiomqtt import ProtocolVersion
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import SecretStr

from gatewayd.errors import HostError
from gatewayd.mqtt.topics import LastWill
from gatewayd.tls import Trust, make_context

# After two of these without an answer the broker counts as gone.
KEEPALIVE_S = 60
# The answer to CONNECT takes one round trip. Some brokers never answer that of MQTT 5, and are then tried
# with 3.1.1.
CONNECT_TIMEOUT_S = 5.0
# Topic, properties and packet identifier, on top of the largest payload: a topic has at most 65,535 bytes.
PACKET_OVERHEAD_BYTES = 128 * 1024
# A gateway that was off for less than this still gets every message.
SESSION_EXPIRY_S = 7 * 24 * 3600
# How much of a message with QoS 0, whose number nothing limits, is kept for a visitor that does not read.
QOS_0_BYTES = 64

# Reason codes of MQTT 5; paho translates those of 3.1.1 into them.
FAILURE = 0x80
_UNSUPPORTED_PROTOCOL = 0x84
_BAD_CREDENTIALS, _NOT_AUTHORIZED = 0x86, 0x87
_TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95
_SHUTTING_DOWN = 0x8B
_NO_RETAIN = 0x9A


# aiomqtt and paho log stack traces for what is logged here in one line.
_SILENT = logging.getLogger("gatewayd.mqtt.client")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class BrokerError(HostError):
    """The broker cannot be reached, refuses us, or went away."""

    default_code = "not_connected"


@dataclass(frozen=True, slots=True)
class Login:
    """The broker, and our account there.

    Attributes:
        session_expiry_s: how long the broker shall keep our session; 0: it ends with the connection.
        is_visitor: see visitor.py. With MQTT 3.1.1, which cannot end a session later, it begins a clean one.
        max_packet_bytes: the rest of a longer packet is read and thrown away.
        qos_0_bytes: the same for the payload of a message with QoS 0.
        qos_0_waiting_bytes: messages with QoS 0 waiting to be handled, together; None: no limit.
    """

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: SecretStr | None = None
    will: LastWill | None = None
    session_expiry_s: int = 0
    is_visitor: bool = False
    max_packet_bytes: int | None = None
    qos_0_bytes: int = QOS_0_BYTES
    qos_0_waiting_bytes: int | None = None
    trust: Trust | None = None


def make_client(login: Login, protocol: ProtocolVersion) -> aiomqtt.Client:
    """Return a client for one connection, not yet opened. Raises TlsError `tls_files`."""
    will = aiomqtt.Will(login.will.topic, login.will.payload, qos=1, retain=True) if login.will else None
    is_v5 = protocol is ProtocolVersion.V5
    persistent = login.session_expiry_s > 0 and (is_v5 or not login.is_visitor)
    return aiomqtt.Client(
        login.host,
        login.port,
        logger=_SILENT,
        username=login.username,
        password=login.password.get_secret_value() if login.password else None,
        identifier=login.client_id,
        protocol=protocol,
        will=will,
        keepalive=KEEPALIVE_S,
        timeout=CONNECT_TIMEOUT_S,
        clean_session=None if is_v5 else not persistent,
        clean_start=not persistent if is_v5 else MQTT_CLEAN_START_FIRST_ONLY,  # with 3.1.1: not given
        properties=_connect_properties(login) if is_v5 else None,
        tls_context=make_context(login.trust) if login.trust else None,
        # The context checks the name if it is to be checked; paho's own check fails since Python 3.12.
        tls_insecure=True if login.trust and login.trust.pins and not login.trust.ca_file else None,
    )


def _connect_properties(login: Login) -> Properties:
    """Receive Maximum 1 limits memory: one image in flight, however many wait at the broker.

    Maximum Packet Size is not announced: mosquitto (2.0.11) silently drops a larger message, still counts it
    as the one in flight, and delivers nothing more. `bound_packets` limits memory, and the intake reports
    the refusal.
    """
    make: Any = Properties  # untyped, with attributes created at run time
    properties = make(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = login.session_expiry_s
    properties.ReceiveMaximum = 1
    typed: Properties = properties
    return typed


def refusal(reason: Any, login: Login) -> BrokerError:
    """Return the error for a refusal in CONNACK."""
    value = getattr(reason, "value", reason)
    where = f"the broker at {login.host}:{login.port}"
    if value == _UNSUPPORTED_PROTOCOL:
        return BrokerError(f"{where} does not speak this version of MQTT", code="protocol_refused")
    if value in {_BAD_CREDENTIALS, _NOT_AUTHORIZED}:
        who = f"user {login.username}" if login.username else "a client without a user name"
        hint = "check mqtt.username, mqtt.password_file and the broker's access rules"
        if login.will and value == _NOT_AUTHORIZED:
            hint += f"; {about_will(login.will)}"
        return BrokerError(f"{where} refuses {who}: {reason}", code="bad_credentials", hint=hint)
    if value == _NO_RETAIN:
        return _no_retain(login)
    return BrokerError(f"{where} refuses the connection: {reason}", code="broker_refused")


def about_will(will: LastWill) -> str:
    """Return the part of a hint for where the broker may refuse the connection over the last will."""
    return (
        f"is the last will forbidden, a retained message to {will.topic}? `gatewayctl doctor` tries with and"
        " without it"
    )


def _no_retain(login: Login) -> BrokerError:
    return BrokerError(
        f"the broker at {login.host}:{login.port} keeps no retained messages, which gatewayd needs",
        code="retain_unavailable",
        hint="enable them in the broker (mosquitto: retain_available true)",
    )


def ending(reason: ReasonCode | None, error: BaseException | None, login: Login) -> BrokerError:
    """Return the error for the reason in DISCONNECT, or for a connection that broke without one."""
    if reason is not None and reason.value == _TAKEN_OVER:
        return BrokerError(
            f"another client with id {login.client_id} took over the session",
            code="taken_over",
            hint="give each gateway its own gateway.id or mqtt.client_id",
        )
    if reason is not None and reason.value == _NO_RETAIN:
        return _no_retain(login)
    if reason is not None and reason.value == _SHUTTING_DOWN:
        return BrokerError("the broker is shutting down or restarting", code="broker_restarts")
    if reason is not None and reason.value == PACKET_TOO_LARGE:
        return BrokerError(
            "the broker closed the connection because one of our messages is too large for it",
            code="exceeds_broker_limit",
            hint="raise the broker's limit (mosquitto: max_packet_size, message_size_limit)",
        )
    if isinstance(error, MemoryError):
        return BrokerError(
            "this machine has too little memory for the message",
            code="out_of_memory",
            hint="lower mqtt.max_message_mib: a message needs three times its size",
        )
    return BrokerError(f"the connection ended: {reason or error or 'it was cut'}", code="connection_lost")
