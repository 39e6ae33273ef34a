"""One connection as the check of what is retained sees it."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.inbox import Inbox
from gatewayd.mqtt.subscriptions import Subscriptions


@dataclass(frozen=True, slots=True)
class Exchange:
    """See `retained_check.Exchange`."""

    connection: Connection
    inbox: Inbox
    subscriptions: Subscriptions
    send: Callable[[Connection, str, bytes], Awaitable[None]]

    @property
    def is_idle(self) -> bool:
        """Whether no message is being looked at."""
        return self.inbox.is_idle

    async def replay(self, topics: Collection[str]) -> None:
        """Have what is retained come once more. Raises BrokerError at the end of the connection."""
        await self.subscriptions.replay(self.connection, topics)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish, retained. Raises BrokerError."""
        await self.send(self.connection, topic, payload)
