"""Empties everything that Home Assistant discovers of one gateway, from beside it: also when it is off."""

import asyncio

from gatewayd.codes import Code
from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.login import BrokerError, Login
from gatewayd.mqtt.visitor import publish_retained, visit

# Seconds without news before all retained messages count as received; see fleet/status.py.
QUIET_S = 2.0


async def clear(login: Login, topic_filter: str) -> tuple[str, ...]:
    """Empty each retained message that matches; return their topics. Raises BrokerError."""
    connection = await visit(login)
    try:
        if refused := await connection.look_at([topic_filter]):
            raise BrokerError(
                f"the broker refuses a subscription to {topic_filter}: {refused[topic_filter]}",
                code=Code.SUBSCRIPTION_REFUSED,
                hint="check the broker's access rules, or use another user: --username",
            )
        topics = await _retained(connection)
        await connection.unsubscribe([topic_filter])
        for topic in topics:
            await publish_retained(connection, topic, b"")
        return topics
    finally:
        await connection.close()


async def _retained(connection: Connection) -> tuple[str, ...]:
    found: set[str] = set()
    seeing = asyncio.create_task(_see(connection, found))
    try:
        before = -1
        while len(found) != before and not seeing.done():
            before = len(found)
            await asyncio.wait([seeing], timeout=QUIET_S)
    finally:
        seeing.cancel()
        await asyncio.wait([seeing])
    if not seeing.cancelled():
        seeing.result()  # the connection ended
    return tuple(sorted(found))


async def _see(connection: Connection, found: set[str]) -> None:
    while True:
        message = (await connection.receive()).message
        if message.payload:
            found.add(message.topic)
