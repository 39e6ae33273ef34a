"""A client beside the gateway: what `publish`, `withdraw`, `doctor` and `fleet status` are to the broker.

It has a client id of its own, for with the gateway's the broker would throw the gateway out. Some brokers
take the user's name in place of the client id (mosquitto's use_username_as_clientid). That shows in MQTT 5:
an id that nobody has used before cannot have a session, and yet the broker says that there is one. So a
visitor does not begin a clean session, which would wipe the gateway's, but looks first, and leaves at once
where the session is another's. What it leaves behind otherwise ends with DISCONNECT.
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

# The broker has this long for everything but the transfer, and the line is at least this fast.
ANSWER_TIMEOUT_S = 30
SLOWEST_LINE_BYTES_PER_S = 16 * 1024


@dataclass(frozen=True, slots=True)
class Account:
    """Whom to log in as instead of the gateway's user."""

    username: str
    password: SecretStr | None


def visitor(
    mqtt: Mqtt,
    *,
    account: Account | None = None,
    max_packet_bytes: int | None = None,
    qos_0_bytes: int = QOS_0_BYTES,
) -> Login:
    """A login beside the gateway's, as its user unless there is another `account`."""
    return Login(
        host=mqtt.host,
        port=mqtt.port,
        client_id=f"gatewayctl-{secrets.token_hex(6)}",
        username=account.username if account else mqtt.username,
        password=account.password if account else mqtt.password,
        session_expiry_s=SESSION_EXPIRY_S,
        is_visitor=True,
        max_packet_bytes=max_packet_bytes,
        qos_0_bytes=qos_0_bytes,
        trust=mqtt.trust,
    )


async def visit(login: Login) -> Connection:
    """Connect. Raises BrokerError, `shared_client_id` where that takes another client's session."""
    connection = await connect(login)
    if connection.protocol is not ProtocolVersion.V5:
        return connection
    if not connection.session_present:
        connection.leave_nothing_behind()
        return connection
    await connection.close()
    raise BrokerError(
        f"the broker at {login.host}:{login.port} replaces client ids, probably by the user name"
        f" {login.username} (use_username_as_clientid): this command would keep the gateway disconnected",
        code="shared_client_id",
        hint="give another user: --username and --password-file; the gateway connects again by itself",
    )


async def publish_retained(connection: Connection, topic: str, message: bytes) -> None:
    """Return when the broker has it. Raises BrokerError, `exceeds_broker_limit` for one too large for it."""
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
            hint="it may have it all the same; publishing once more does no harm",
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
