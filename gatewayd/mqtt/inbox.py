"""What comes in on a connection: handed over, retried, refused or dropped; and only then acknowledged."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import NoReturn

import structlog

from gatewayd.back_off import back_off_s
from gatewayd.errors import FirmwareError
from gatewayd.mqtt.connection import Connection, IncomingMessage
from gatewayd.mqtt.qos0 import REPORT_S
from gatewayd.mqtt.retained_check import RetainedCheck
from gatewayd.mqtt.subscriptions import AmbiguousTopicError, Subscriptions
from gatewayd.ota.topic import TopicTemplate
from gatewayd.ota.topic_levels import readings

log = structlog.get_logger()

# Longest wait before a message is offered to the store again. A person who made room sees it stored within a
# minute, whatever the disk itself adds.
MAX_STORE_BACK_OFF_S = 30.0


class Inbox:
    """Takes one message after the other to `on_message`; `on_refusal` is called when `refused` has changed.

    `coming_in` lasts for as long as a message is looked at. `take_other` takes what brings no firmware.
    """

    def __init__(  # noqa: PLR0913 - the last three stand for time and chance
        self,
        subscriptions: Subscriptions,
        template: TopicTemplate,
        *,
        on_message: Callable[[IncomingMessage], Awaitable[None]],
        on_refusal: Callable[[], None],
        coming_in: Callable[[], AbstractContextManager[None]],
        check: RetainedCheck | None,
        take_other: Callable[[IncomingMessage], bool],
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._subscriptions = subscriptions
        self._template = template
        self._on_message = on_message
        self._on_refusal = on_refusal
        self._coming_in = coming_in
        self._check = check
        self._take_other = take_other
        self._sleep, self._clock, self._chance = sleep, clock, chance
        self._refused: dict[str, FirmwareError] = {}
        self._refusal_logged_s: dict[str, float] = {}
        self.is_idle = True

    @property
    def refused(self) -> dict[str, FirmwareError]:
        """Topics whose last message was refused, and why."""
        wanted = self._subscriptions.wanted
        return {topic: error for topic, error in self._refused.items() if topic in wanted}

    async def receive(self, connection: Connection) -> None:
        """Take messages until cancelled. Raises BrokerError at the end of the connection."""
        while True:
            self.is_idle = True
            delivery = await connection.receive()
            self.is_idle = False
            with self._coming_in():
                await self._take(delivery.message)
            connection.acknowledge(delivery)

    async def report_dropped(self, connection: Connection) -> NoReturn:
        """Say what had no room, and ask again for what is retained."""
        while True:
            await self._sleep(REPORT_S)
            for topic in connection.report_dropped():
                with suppress(AmbiguousTopicError):
                    if (wanted := self._subscriptions.wanted_as(topic)) is not None:
                        self._subscriptions.ask_again(wanted)

    async def _take(self, raw: IncomingMessage) -> None:
        """Return when the message may be acknowledged."""
        failures = 0
        check = self._check
        if check is not None and check.take_marker(raw.topic, raw.payload, is_retained=raw.retain):
            return
        if self._take_other(raw):
            return
        while (message := self._followed(raw)) is not None:
            try:
                await self._on_message(message)
            except FirmwareError as error:
                self._refuse(message.topic, error)
            except Exception as error:
                failures += 1
                wait_s = back_off_s(failures, self._chance(), longest_s=MAX_STORE_BACK_OFF_S)
                log.exception(
                    "message not stored, and not acknowledged: it is kept and tried again",
                    topic=message.topic,
                    code=getattr(error, "code", "internal"),
                    reason=str(error),
                    retry_in_s=round(wait_s),
                )
                await self._sleep(wait_s)
                continue
            else:
                self._refused.pop(message.topic, None)
            if self._check is not None:
                self._check.came(message.topic, is_retained=message.retain)
            return

    def _refuse(self, topic: str, error: FirmwareError) -> None:
        last, self._refused[topic] = self._refused.get(topic), error
        is_news = last is None or last.code != error.code
        if is_news:
            self._on_refusal()
        # A flood of what is refused must not flood the log.
        now_s = self._clock()
        if is_news or now_s - self._refusal_logged_s.get(topic, now_s) >= REPORT_S:
            self._refusal_logged_s[topic] = now_s
            log.warning("message refused", topic=topic, code=error.code, reason=str(error))

    def _followed(self, message: IncomingMessage) -> IncomingMessage | None:
        """Return the message under the topic we subscribed to; None for one that was dropped."""
        topic = message.topic
        try:
            if (wanted := self._subscriptions.wanted_as(topic)) is not None:
                return replace(message, topic=wanted)
        except AmbiguousTopicError as error:
            for candidate in error.candidates:
                self._refuse(candidate, error)
            return None
        stale = [topic] if self._template.parse(topic) else readings(self._template, topic) or [topic]
        log.warning(
            "message dropped: no device follows its topic any more",
            topic=topic,
            code="not_ours",
            reason=f"the broker's session was still subscribed to {' or '.join(stale)}; unsubscribing",
        )
        for one in stale:
            self._subscriptions.ask_again(one)
        return None
