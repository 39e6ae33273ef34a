"""One connection as the check of what is retained sees it."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NoReturn

import structlog

from gatewayd.errors import HostError
from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.inbox import MAX_STORE_BACK_OFF_S, Inbox
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.retained_check import RetainedCheck
from gatewayd.mqtt.subscriptions import Subscriptions

log = structlog.get_logger()


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

    async def compare(
        self,
        check: RetainedCheck,
        coming_in: Callable[[], AbstractContextManager[None]],
        sleep: Callable[[float], Awaitable[None]],
    ) -> NoReturn:
        """Find out what the broker still retains, whenever that was asked for. Raises BrokerError."""
        while True:
            await check.due.wait()
            try:
                with coming_in():
                    await check.carry_out(self, sleep)
            except BrokerError:
                raise
            except HostError as error:  # the disk; the broker is not to blame
                log.warning("what the broker retains cannot be compared", code=error.code, reason=str(error))
                await sleep(MAX_STORE_BACK_OFF_S)
                check.due.set()
