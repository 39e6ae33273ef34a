"""Messages that bring no firmware: commands, and what is retained on topics that are searched.

Commands are subscribed to at QoS 0: the broker keeps none for us while we are away, so nothing happens days
after somebody pressed a button. Some brokers keep QoS 0, too (EMQX; mosquitto with queue_qos0_messages): that
comes before the answer to our subscription, and is ignored. A session that the broker kept may still be
subscribed to commands although nobody wants them any more: that shows when one comes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NoReturn

import structlog

from gatewayd.codes import Code
from gatewayd.mqtt.connection import IncomingMessage
from gatewayd.mqtt.exchange import Exchange
from gatewayd.mqtt.left_out import Request
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.retained_check import settle
from gatewayd.mqtt.subscriptions import Subscriptions
from gatewayd.mqtt.topics import GatewayTopics

log = structlog.get_logger()

# Called with the name in the topic of a command, and the message; it does not block.
OnCommand = Callable[[str, IncomingMessage], None]


class OtherTopics:
    """`on_command` takes commands; None: there are none."""

    def __init__(
        self, topics: GatewayTopics, subscriptions: Subscriptions, on_command: OnCommand | None
    ) -> None:
        self._topics = topics
        self._subscriptions = subscriptions
        self._on_command = on_command
        self._exchange: Exchange | None = None
        self._is_listening = False  # whether the subscription of this connection was answered
        self._search: tuple[str, str] | None = None  # how a topic that is searched begins and ends
        self._found: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    def take(self, message: IncomingMessage) -> bool:
        """Take a message; False: it may bring firmware."""
        if (name := self._topics.told_to_install(message.topic)) is not None:
            if self._on_command is None:
                self._subscriptions.ask_again(self._topics.every_install)  # which unsubscribes
            else:
                self._on_command(name, replace(message, retain=message.retain or not self._is_listening))
            return True
        if self._search is None:
            return False
        before, after = self._search
        if not message.topic.startswith(before) or not message.topic.endswith(after):
            return False
        if message.payload:
            self._found.add(message.topic)
        return True

    async def serve(self, exchange: Exchange) -> NoReturn:
        """Subscribe to commands. Raises BrokerError at the end of the connection."""
        self._exchange = exchange
        try:
            if self._on_command is not None:
                self._is_listening = await self._look_at(exchange, self._topics.every_install)
            await exchange.connection.ended()
        finally:
            self._exchange, self._is_listening = None, False

    async def retained(self, topic_filter: str, sleep: Callable[[float], Awaitable[None]]) -> frozenset[str]:
        """Return the topics that match and where something is retained; the filter has one `+`.

        Raises BrokerError.
        """
        if (exchange := self._exchange) is None:
            raise BrokerError("there is no connection to the broker")
        async with self._one_at_a_time:
            before, _, after = topic_filter.partition("+")
            self._search, self._found = (before, after), set()
            if await self._look_at(exchange, topic_filter):
                await settle(exchange, sleep)
                await exchange.connection.unsubscribe([topic_filter])
            return frozenset(self._found)

    async def _look_at(self, exchange: Exchange, topic_filter: str) -> bool:
        request = Request("subscribe", topic_filter)
        left_out = self._subscriptions.left_out
        if left_out.error_of(request) is not None:
            return False
        async with left_out.asking(exchange.connection, [request]) as noes:
            refused = await exchange.connection.look_at([topic_filter])
            noes.update(Request("subscribe", topic) for topic in refused)
        for reason in refused.values():
            log.warning(
                "the broker refuses a subscription",
                topic=topic_filter,
                code=str(Code.SUBSCRIPTION_REFUSED),
                reason=f"{reason}; check the broker's access rules",
            )
        return not refused
