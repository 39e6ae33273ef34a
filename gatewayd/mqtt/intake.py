"""From a message to a stored release: the little that is checked before the commit.

What must not reach the disk is refused here, and so is what brings nothing new beyond certain limits (see
planning/arrivals.py). Everything else is stored, even if it is refused, so that a key or setting that is
corrected later leads to another verdict on the same bytes.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from gatewayd.allowance import Allowance
from gatewayd.errors import FirmwareError
from gatewayd.jobs.model import DecodeProfile, Verdict
from gatewayd.mqtt.connection import IncomingMessage
from gatewayd.mqtt.router import Route
from gatewayd.ota.topic import OtaTopic, TopicTemplate

log = structlog.get_logger()

# Lines in the log about messages that changed nothing, at once and in an hour: less than 400 KiB.
IDLE_LINES = 1500


class ReleaseStore(Protocol):
    """Where releases go. Both methods return once a change is durable; False: nothing to change."""

    async def add_release(
        self,
        topic: OtaTopic,
        topic_text: str,
        payload: bytes,
        verdicts: Mapping[DecodeProfile, Verdict],
        *,
        is_retained: bool,
    ) -> bool:
        """Make `payload` the topic's release, with verdicts on it; False if it is that already."""
        ...

    async def withdraw(self, topic_text: str) -> bool:
        """Remove the topic's release; False if it has none."""
        ...


@dataclass(frozen=True, slots=True)
class MessageChecks:
    """What those who hold the keys say of a message.

    `is_signed`: whether a device with that application vouches for it by its key. `weigh`: see
    `planning.arrivals.Arrivals`.
    """

    is_signed: Callable[[OtaTopic, bytes], Awaitable[bool]]
    weigh: Callable[[OtaTopic, str, bytes], Awaitable[Mapping[DecodeProfile, Verdict]]]


class Intake:
    """Hands releases to the store, and calls `on_change` afterwards."""

    def __init__(
        self,
        store: ReleaseStore,
        *,
        max_message_bytes: int,
        on_change: Callable[[], None],
        on_stored: Callable[[], None] = lambda: None,
        checks: MessageChecks,
        count: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._checks = checks
        self._count = count
        self._idle_lines = Allowance(IDLE_LINES, IDLE_LINES, clock)
        self._left_out = 0
        self._max_message_bytes = max_message_bytes
        self._on_change = on_change
        self._on_stored = on_stored

    def route(self, template: TopicTemplate) -> Route[OtaTopic]:
        """Return the route for firmware messages."""
        return Route(template.template, template.parse, self.accept)

    async def accept(self, topic: OtaTopic, message: IncomingMessage) -> None:
        """Store a release, or withdraw it if the payload is empty; durable on return.

        Raises FirmwareError `qos0` or `too_large` for what is refused for good, and NotKeptError for what is
        refused and not stored. If the store raises, the message is not accepted yet.
        """
        try:
            outcome = await self._take(topic, message)
        except FirmwareError:
            self._count("refused")
            raise
        self._count(outcome)
        # Also if nothing changed: an earlier call may have been cancelled before this, with its connection.
        self._on_change()

    async def _take(self, topic: OtaTopic, message: IncomingMessage) -> str:
        """Store or withdraw; return what came of the message, as it is counted."""
        # Brokers clear the retain flag on the way to a live subscriber, so an empty payload alone decides.
        # Any QoS is accepted: other tools empty a topic with QoS 0, and an empty payload cannot be damaged.
        if message.payload:
            self._check_size(message)
            if message.qos == 0:
                await self._check_qos_0(topic, message)
            verdicts = await self._checks.weigh(topic, message.topic, message.payload)
            changed = await self._store.add_release(
                topic, message.topic, message.payload, verdicts, is_retained=message.retain
            )
            if changed:
                self._on_stored()
            self._log(message, "release stored" if changed else "release is already here", is_news=changed)
            for verdict in verdicts.values() if changed else ():
                _log_verdict(message.topic, verdict)
            return "stored" if changed else "known"
        changed = await self._store.withdraw(message.topic)
        self._log(message, "release withdrawn" if changed else "nothing to withdraw", is_news=changed)
        return "withdrawn" if changed else "nothing_to_withdraw"

    def _log(self, message: IncomingMessage, event: str, *, is_news: bool) -> None:
        if not is_news and not self._idle_lines.take():
            self._left_out += 1
            return
        more = {"left_out": self._left_out} if self._left_out else {}
        self._left_out = 0
        size_bytes = len(message.payload)
        log.info(event, topic=message.topic, size_bytes=size_bytes, retained=message.retain, **more)

    async def _check_qos_0(self, topic: OtaTopic, message: IncomingMessage) -> None:
        """Refuse what may have been damaged on the way, unless it is signed."""
        if not await self._checks.is_signed(topic, message.payload):
            raise FirmwareError(
                "the message came with QoS 0, expected QoS 1 or 2, and is not signed",
                code="qos0",
                hint="publish it again with QoS 1: messages with QoS 0 can get lost unnoticed",
            )
        log.warning(
            "signed firmware came with QoS 0 and is taken",
            topic=message.topic,
            code="qos0",
            reason="messages with QoS 0 can get lost; publish with QoS 1, and set bridges to it",
        )

    def _check_size(self, message: IncomingMessage) -> None:
        size_bytes = len(message.payload)
        # Messages far above the limit are cut (see `bound_packets`), so their true size is unknown.
        if size_bytes > self._max_message_bytes:
            raise FirmwareError(
                f"the message has more than {self._max_message_bytes} bytes",
                code="too_large",
                hint="mqtt.max_message_mib sets the limit",
            )


def _log_verdict(topic: str, verdict: Verdict) -> None:
    if verdict.is_genuine:
        log.info("release verified", topic=topic, patch=verdict.patch)
    else:
        log.warning("release refused", topic=topic, code=verdict.code, reason=verdict.reason)
