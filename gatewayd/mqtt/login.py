"""Who we are to the broker, how a client is made from that, and what its refusals mean."""

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

# Two of these without an answer and the broker is gone.
KEEPALIVE_S = 60
# The answer to CONNECT takes one round trip. Some brokers never answer one of MQTT 5 and want to be asked
# again in 3.1.1.
CONNECT_TIMEOUT_S = 5.0
# Topic, properties and packet identifier, on top of the largest payload: a topic has at most 65,535 bytes.
PACKET_OVERHEAD_BYTES = 128 * 1024
# A gateway that was off for less than this finds every message still waiting.
SESSION_EXPIRY_S = 7 * 24 * 3600
# Nothing holds back messages with QoS 0, and a gateway refuses them whatever is in them.
QOS_0_BYTES = 64

# Reason codes of MQTT 5, which paho also translates those of 3.1.1 into.
FAILURE = 0x80
_UNSUPPORTED_PROTOCOL = 0x84
_BAD_CREDENTIALS = (0x86, 0x87)
_TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95


# aiomqtt and paho log with stack traces what is told in one line here.
_SILENT = logging.getLogger("gatewayd.mqtt.client")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class BrokerError(HostError):
    """The broker: it cannot be reached, refuses us, or went away."""

    default_code = "not_connected"


@dataclass(frozen=True, slots=True)
class Login:
    """Whom to connect to and as whom. `session_expiry_s` 0: leave nothing behind.

    `is_visitor`: see visitor.py; with MQTT 3.1.1, which cannot end a session later, it begins a clean one.

    Of a packet beyond `max_packet_bytes` the rest is read and thrown away; of a message with QoS 0 what is
    beyond `qos_0_bytes`.
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
    trust: Trust | None = None


def make_client(login: Login, protocol: ProtocolVersion) -> aiomqtt.Client:
    """A client for one connection, which it does not open yet. Raises TlsError `tls_files`."""
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
        clean_start=not persistent if is_v5 else MQTT_CLEAN_START_FIRST_ONLY,  # the latter: "says nothing"
        properties=_connect_properties(login) if is_v5 else None,
        tls_context=make_context(login.trust) if login.trust else None,
        # The context checks the name, where it is to be checked: paho's own check is gone since Python 3.12.
        tls_insecure=True if login.trust and login.trust.pins and not login.trust.ca_file else None,
    )


def _connect_properties(login: Login) -> Properties:
    """Receive Maximum 1 bounds memory: one image in flight, whatever waits at the broker.

    Maximum Packet Size is not announced: mosquitto (2.0.11) silently drops a larger message, goes on counting
    it as the one in flight, and delivers nothing more. `bound_packets` limits memory, and the intake says
    what was refused.
    """
    make: Any = Properties  # untyped, and its attributes are made up at run time
    properties = make(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = login.session_expiry_s
    properties.ReceiveMaximum = 1
    typed: Properties = properties
    return typed


def refusal(reason: Any, login: Login) -> BrokerError:
    """Translate what CONNACK says."""
    value = getattr(reason, "value", reason)
    where = f"the broker at {login.host}:{login.port}"
    if value == _UNSUPPORTED_PROTOCOL:
        return BrokerError(f"{where} does not speak this version of MQTT", code="protocol_refused")
    if value in _BAD_CREDENTIALS:
        who = f"user {login.username}" if login.username else "a client without a user name"
        return BrokerError(
            f"{where} refuses {who}: {reason}",
            code="bad_credentials",
            hint="check mqtt.username, mqtt.password_file and the broker's access rules",
        )
    return BrokerError(f"{where} refuses the connection: {reason}", code="broker_refused")


def ending(reason: ReasonCode | None, error: BaseException | None, login: Login) -> BrokerError:
    """Translate what DISCONNECT says, or what broke without one."""
    if reason is not None and reason.value == _TAKEN_OVER:
        return BrokerError(
            f"another client with id {login.client_id} took over the session",
            code="taken_over",
            hint="give each gateway its own gateway.id or mqtt.client_id",
        )
    return BrokerError(f"the connection ended: {reason or error or 'it was cut'}", code="connection_lost")
