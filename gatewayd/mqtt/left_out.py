"""Requests that the broker refuses, or closes the connection over: left out for a while; the rest goes on.

Theory of operation. MQTT 3.1.1 has no answer for a message that is forbidden, and some brokers (RabbitMQ, AWS
IoT) have none for a subscription either: they close the connection. A gateway that asks for the same with
each connection then has none that lasts. So what was asked and not answered when the broker closed is
suspected. An answer clears a request; but RabbitMQ says no to a subscription, and then closes all the same.

    two closes over one request alone    it is left out
    two closes over several requests     from then on each waits for the answer to the one before, until the
                                         broker closes over a single one
    two closes after a plain no          what it said no to is left out
    what was left out is due again       asked alone, too; one more close leaves it out for longer

A line that breaks looks the same as a broker that closes, so this can be wrong. It costs little then: what
was left out is asked for again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import structlog

from gatewayd.codes import Code
from gatewayd.mqtt.connection import STEADY_S, Connection
from gatewayd.mqtt.login import BrokerError

log = structlog.get_logger()

# Closes over the same request before it is suspected in earnest: one may be chance.
CLOSES = 2
# The first wait before the broker is asked again; each further one is twice as long. A close costs everybody
# the connection, a plain no costs nobody anything.
AFTER_CLOSE_S = 300.0
AFTER_REFUSAL_S = 30.0
LONGEST_S = 6 * 3600.0
_ANSWERS = frozenset({Code.PUBLISH_REFUSED, Code.EXCEEDS_BROKER_LIMIT})


@dataclass(frozen=True, slots=True, order=True)
class Request:
    """What the broker is asked for."""

    kind: Literal["publish", "subscribe"]
    topic: str

    def __str__(self) -> str:
        return f"{'a message' if self.kind == 'publish' else 'a subscription'} to {self.topic}"

    @property
    def code(self) -> Code:
        """What is said where it is left out."""
        return Code.PUBLISH_REFUSED if self.kind == "publish" else Code.SUBSCRIPTION_REFUSED


@dataclass(frozen=True, slots=True)
class _Sentence:
    error: BrokerError
    due_s: float
    wait_s: float
    closes: bool  # the broker closes over it; otherwise it said no


class LeftOut:
    """What is left out, what is suspected, and what got a plain no. It outlives connections."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._unanswered: set[Request] = set()
        self._refused: set[Request] = set()  # on this connection
        self._noes: dict[Request, BrokerError] = {}  # to messages; these are sent again when they change
        self._closes: dict[Request, int] = {}
        self._sentences: dict[Request, _Sentence] = {}
        self._is_careful = False
        self._turn = asyncio.Lock()
        self._connected_s = 0.0
        self._news = asyncio.Event()

    @property
    def errors(self) -> dict[Request, BrokerError]:
        """What the broker was not willing to do when it was last asked, and why."""
        left_out = {request: sentence.error for request, sentence in self._sentences.items()}
        return {**self._noes, **left_out}

    @property
    def suspects(self) -> list[Request]:
        """What was asked and not answered when the broker last closed the connection."""
        return sorted(self._closes)

    @property
    def is_careful(self) -> bool:
        """Whether one request waits for the answer to the one before."""
        return self._is_careful or any(
            one.closes and self._clock() >= one.due_s for one in self._sentences.values()
        )

    def error_of(self, request: Request) -> BrokerError | None:
        """Why a request is left out now; None: it may be made."""
        sentence = self._sentences.get(request)
        return sentence.error if sentence is not None and self._clock() < sentence.due_s else None

    async def until_due(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Return when something that was left out may be asked for again."""
        while True:
            self._news.clear()
            now_s = self._clock()
            due_s = min((one.due_s for one in self._sentences.values() if one.due_s > now_s), default=inf)
            waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._news.wait())]
            if due_s < inf:
                waits.append(asyncio.ensure_future(sleep(due_s - now_s)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if self._clock() >= due_s:
                return

    def begin(self) -> None:
        """A connection was made: what got a plain no is asked for again."""
        self._unanswered.clear()
        self._refused.clear()
        self._noes.clear()
        self._connected_s = self._clock()
        self._sentences = {request: one for request, one in self._sentences.items() if one.closes}

    @asynccontextmanager
    async def asking(
        self, connection: Connection, requests: Collection[Request]
    ) -> AsyncIterator[set[Request]]:
        """Make requests inside; they count as answered when it is left without a BrokerError.

        It yields a set, for those that were answered with a plain no.
        """
        if self.is_careful:
            async with self._turn:
                connection.check_is_open()
                async with self._asking(requests) as refused:
                    yield refused
        else:
            async with self._asking(requests) as refused:
                yield refused

    @asynccontextmanager
    async def _asking(self, requests: Collection[Request]) -> AsyncIterator[set[Request]]:
        refused: set[Request] = set()
        self._unanswered.update(requests)
        try:
            yield refused
        except BrokerError as error:
            if error.code in _ANSWERS:
                self._answered(requests, refused)
                self._noes |= dict.fromkeys(requests, error)
            raise
        self._answered(requests, refused)

    def _answered(self, requests: Collection[Request], refused: Collection[Request]) -> None:
        self._unanswered.difference_update(requests)
        for request in set(requests).difference(refused):
            self._closes.pop(request, None)
            self._sentences.pop(request, None)
            self._noes.pop(request, None)

    def refused(self, request: Request, error: BrokerError) -> None:
        """Take note of a plain no to a request that was made."""
        self._refused.add(request)
        last = self._sentences.get(request)
        if last is not None and last.closes:
            self._leave_out(request, error, last.wait_s, closes=True)
            return
        wait_s = AFTER_REFUSAL_S if last is None else min(LONGEST_S, 2 * last.wait_s)
        self._leave_out(request, error, wait_s, closes=False)

    def ended(self, *, was_closed: bool) -> bool:
        """Take note of a connection's end; True: it is known now what the broker closes over."""
        unanswered, self._unanswered = self._unanswered, set()
        if not (unanswered or self._refused) and (
            was_closed or self._clock() - self._connected_s >= STEADY_S
        ):
            self._closes.clear()  # it closes without that, too, or has held for long
            self._is_careful = False
        asked = self._refused or unanswered
        if not was_closed or not asked:
            return False
        self._closes |= {request: self._closes.get(request, 0) + 1 for request in asked}
        known = [one for one in asked if (last := self._sentences.get(one)) is not None and last.closes]
        suspected = known or [one for one in asked if self._closes[one] >= CLOSES]
        if len(asked) > 1 and not self._refused:
            self._is_careful = self._is_careful or bool(suspected)
            return False
        for request in suspected:
            self._convict(request)
        return bool(suspected)

    def _convict(self, request: Request) -> None:
        last = self._sentences.get(request)
        wait_s = AFTER_CLOSE_S if last is None or not last.closes else min(LONGEST_S, 2 * last.wait_s)
        error = BrokerError(
            f"the broker closes the connection over {request}",
            code=request.code,
            hint="check the broker's access rules",
        )
        self._closes.pop(request, None)
        self._leave_out(request, error, wait_s, closes=True)
        log.error(
            "left out what the broker closes the connection over; the rest goes on",
            topic=request.topic,
            request=request.kind,
            code=str(request.code),
            reason=str(error),
            retry_in_s=round(wait_s),
        )

    def _leave_out(self, request: Request, error: BrokerError, wait_s: float, *, closes: bool) -> None:
        self._sentences[request] = _Sentence(error, self._clock() + wait_s, wait_s, closes)
        self._news.set()
