"""Taking a release back: the topic's retained message is emptied, and it is seen what it was.

The empty message goes to ourselves, too, since we are subscribed; a retained one that was there comes before
it. So what comes first says whether there was any.
"""

import asyncio
from dataclasses import dataclass

from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.login import Login
from gatewayd.mqtt.visitor import publish_retained, visit

# How long to wait for our own message after the broker has confirmed it: brokers may forbid us to read there.
ECHO_S = 3.0


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What the topic held; `was_retained` None: it is not known, for we may not read there.

    `size_bytes` is as much as the login lets through.
    """

    was_retained: bool | None
    size_bytes: int | None = None


async def withdraw(login: Login, topic: str) -> Withdrawal:
    """Return when the broker has confirmed, at QoS 1, that nothing is retained. Raises BrokerError."""
    connection = await visit(login)
    try:
        may_read = not await connection.look_at([topic])
        seeing = asyncio.create_task(_see(connection, topic))
        try:
            await publish_retained(connection, topic, b"")
            await asyncio.wait([seeing], timeout=ECHO_S if may_read else 0)
        finally:
            seeing.cancel()
            await asyncio.wait([seeing])
        return Withdrawal(None) if seeing.cancelled() else seeing.result()
    finally:
        await connection.close()


async def _see(connection: Connection, topic: str) -> Withdrawal:
    """Return what was retained, once it or the empty message has come."""
    while True:
        message = (await connection.receive()).message
        if message.topic != topic:
            continue
        if message.payload and not message.retain:
            continue  # somebody has just published: what was retained came before, or nothing was
        return Withdrawal(bool(message.payload), len(message.payload) or None)
