"""Withdrawing a release: empties the topic's retained message, and finds out what it was.

We subscribe first, so the broker sends us the retained message, if there is one, and then the empty one. What
comes first tells whether there was one.
"""

import asyncio
from dataclasses import dataclass

from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.login import Login
from gatewayd.mqtt.visitor import publish_retained, visit

# How long to wait for our own message after the broker has confirmed it: we may not be allowed to read it.
ECHO_S = 3.0


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What was retained on the topic; `was_retained` None: unknown, because we may not read it.

    `size_bytes` is limited by what the login keeps of a message.
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
            continue  # just published by another client: a retained message would have come before
        return Withdrawal(bool(message.payload), len(message.payload) or None)
