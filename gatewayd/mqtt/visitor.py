"""A client next to the gateway's own: `publish`, `withdraw`, `doctor` and `fleet status` use it.

It has its own client id, because with the gateway's the broker would disconnect the gateway. Some brokers
replace the client id by the user name (mosquitto's use_username_as_clientid). With MQTT 5 this can be
detected: a client id that was never used before cannot have a session, and yet the broker reports one. So a
visitor does not begin a clean session, which would delete the gateway's, but checks first, and disconnects at
once if the session belongs to another client. Otherwise its session ends with DISCONNECT.
"""

import asyncio
import secrets
from dataclasses import dataclass

from aiomqtt import ProtocolVersion
from pydantic import SecretStr

from gatewayd.codes import Code
from gatewayd.config import Mqtt
from gatewayd.mqtt.connection import Connection, connect
from gatewayd.mqtt.login import QOS_0_BYTES, SESSION_EXPIRY_S, BrokerError, Login
from gatewayd.mqtt.topics import LastWill

# The broker's time to answer, and the least speed of the line: together they limit a transfer.
ANSWER_TIMEOUT_S = 30
SLOWEST_LINE_BYTES_PER_S = 16 * 1024


@dataclass(frozen=True, slots=True)
class Account:
    """The user to log in as, instead of the gateway's."""

    username: str
    password: SecretStr | None


def visitor(
    mqtt: Mqtt,
    *,
    account: Account | None = None,
    max_packet_bytes: int | None = None,
    qos_0_bytes: int = QOS_0_BYTES,
    will: LastWill | None = None,
) -> Login:
    """Return a login next to the gateway's, with the same user unless `account` is given."""
    return Login(
        host=mqtt.host,
        port=mqtt.port,
        client_id=f"gatewayctl-{secrets.token_hex(6)}",
        username=account.username if account else mqtt.username,
        password=account.password if account else mqtt.password,
        will=will,
        session_expiry_s=SESSION_EXPIRY_S,
        is_visitor=True,
        max_packet_bytes=max_packet_bytes,
        qos_0_bytes=qos_0_bytes,
        trust=mqtt.trust,
    )


async def visit(login: Login, protocol: ProtocolVersion = ProtocolVersion.V5) -> Connection:
    """Connect. Raises BrokerError, `shared_client_id` if that takes over another client's session."""
    connection = await connect(login, protocol)
    if connection.protocol is not ProtocolVersion.V5:
        return connection
    if not connection.session_present:
        connection.leave_nothing_behind()
        return connection
    await connection.close()
    raise BrokerError(
        f"the broker at {login.host}:{login.port} replaces client ids, probably by the user name"
        f" {login.username} (use_username_as_clientid): this command would disconnect the gateway",
        code="shared_client_id",
        hint="use another user: --username and --password-file; the gateway reconnects by itself",
    )


async def publish_retained(connection: Connection, topic: str, message: bytes) -> None:
    """Publish, and return when the broker has confirmed it. Raises BrokerError."""
    login = connection.login
    connection.check_packet(topic, message)
    timeout_s = ANSWER_TIMEOUT_S + len(message) / SLOWEST_LINE_BYTES_PER_S
    try:
        async with asyncio.timeout(timeout_s):
            await connection.publish(topic, message, retain=True)
    except TimeoutError:
        raise BrokerError(
            f"{login.host}:{login.port} has not confirmed the message after {timeout_s:.0f} s",
            code="no_puback",
            hint="the broker may have it nevertheless; publishing it again does no harm",
        ) from None
    except BrokerError as error:
        if error.code != Code.CONNECTION_LOST:
            raise
        raise BrokerError(
            f"{login.host}:{login.port} closed the connection when {len(message)} bytes were sent to"
            f" {topic}: {error.message}",
            code=error.code,
            hint="the broker's log has the reason: its size limit or its access rules, usually",
        ) from None
