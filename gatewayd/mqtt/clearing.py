"""Empties what the broker retains of a gateway that is gone, from beside it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from gatewayd.codes import Code
from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.login import BrokerError, Login
from gatewayd.mqtt.visitor import publish_retained, visit

# Seconds without news before all retained messages count as received, in looks; see fleet/status.py.
QUIET_S = 2.0
LOOK_S = 0.1


async def clear(
    login: Login,
    topic_filters: Sequence[str],
    *,
    check: Callable[[Mapping[str, bytes]], None] = lambda _: None,
) -> tuple[str, ...]:
    """Empty each retained message that matches; return their topics. Raises BrokerError.

    `check` gets the messages by topic before anything is emptied, and may raise.
    """
    connection = await visit(login)
    try:
        if refused := await connection.look_at(topic_filters):
            topic_filter, why = next(iter(refused.items()))
            raise BrokerError(
                f"the broker refuses a subscription to {topic_filter}: {why}",
                code=Code.SUBSCRIPTION_REFUSED,
                hint="check the broker's access rules, or use another user: --username",
            )
        found = await _retained(connection)
        await connection.unsubscribe(topic_filters)
        check(found)
        for topic in sorted(found):
            await publish_retained(connection, topic, b"")
        return tuple(sorted(found))
    finally:
        await connection.close()


async def _retained(connection: Connection) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    seeing = asyncio.create_task(_see(connection, found))
    try:
        quiet_s = 0.0
        while quiet_s < QUIET_S and not seeing.done():
            before = len(found)
            await asyncio.wait([seeing], timeout=LOOK_S)
            quiet_s = 0.0 if len(found) > before else quiet_s + LOOK_S
    finally:
        seeing.cancel()
        await asyncio.wait([seeing])
    if not seeing.cancelled():
        seeing.result()  # the connection ended
    return found


async def _see(connection: Connection, found: dict[str, bytes]) -> None:
    while True:
        message = (await connection.receive()).message
        if message.payload:
            found[message.topic] = message.payload
