"""Which absence counts: a withdrawal that nobody announced is told from a broker that lost its memory."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from lab.brokers import until

from gatewayd.errors import HostError
from gatewayd.mqtt.exchange import Exchange
from gatewayd.mqtt.inbox import MAX_STORE_BACK_OFF_S
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.retained_check import ASK_AGAIN_S, HOLD_S, SETTLE_S, Marker, RetainedCheck
from gatewayd.store.retained import Retention

PUMP, TANK, MARKER = "/a/pump/u/4.3", "/a/tank/u/2.0", "gatewayd/barn.pi/marker"


@dataclass
class Store:
    known: Retention = field(default_factory=lambda: Retention("mine", {PUMP: 5, TANK: 6}, 6))
    suspended: list[frozenset[str]] = field(default_factory=list)
    forgotten: list[tuple[int, frozenset[str]]] = field(default_factory=list)

    async def retention(self) -> Retention:
        return self.known

    async def suspend(self, topics: Collection[str]) -> None:
        self.suspended.append(frozenset(topics))

    async def forget_retained(self, above_seq: int, but: Collection[str]) -> None:
        self.forgotten.append((above_seq, frozenset(but)))


class Broker:
    """Has what it has, and counts what it is asked for. Its messages come while the check sleeps."""

    def __init__(self, **retained: bytes) -> None:
        self.store = Store()
        self.changes = 0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.check = RetainedCheck(
            self.store,
            MARKER,
            on_change=self.count_change,
            later=lambda seconds, call: self.timers.append((seconds, call)),
        )
        self.retained: dict[str, bytes] = dict(retained)
        self.asked: list[list[str]] = []
        self.published: list[Marker | None] = []
        self.sleeps_s: list[float] = []
        self.queue: list[str] = []
        self.refuses: BrokerError | None = None
        self.is_idle = True
        self.messages_in = 0
        self.received_of_packet_bytes = 0

    @property
    def connection(self) -> Any:
        return self

    def count_change(self) -> None:
        self.changes += 1

    async def sleep(self, seconds: float) -> None:
        self.sleeps_s.append(seconds)
        for topic in self.queue:
            self.messages_in += 1
            if not self.check.take_marker(topic, self.retained[topic], is_retained=True):
                self.check.came(topic, is_retained=True)
        self.queue.clear()

    async def send(self, _connection: object, topic: str, payload: bytes) -> None:
        await self.publish(topic, payload)

    async def replay(self, first: object, *rest: Collection[str]) -> None:
        """As the check calls it, and, with a connection before the topics, as an exchange does."""
        topics: Any = rest[0] if rest else first
        self.asked.append(sorted(topics))
        self.queue += [one for one in topics if one in self.retained]

    async def publish(self, topic: str, payload: bytes) -> None:
        assert topic == MARKER
        if self.refuses:
            raise self.refuses
        self.retained[topic] = payload
        self.published.append(Marker.parse(payload))

    async def start(self, *topics: str) -> None:
        """What a start of the process does."""
        self.check.begin()
        self.check.asked(topics)
        self.queue += [one for one in topics if one in self.retained]
        await self.check.carry_out(self, self.sleep)


@pytest.fixture
def broker() -> Broker:
    return Broker()


async def test_what_comes_is_confirmed_and_costs_nothing_more(broker: Broker) -> None:
    broker.retained = {PUMP: b"4.3.2", TANK: b"2.0.1"}
    assert broker.check.is_unconfirmed(PUMP)
    await broker.start(PUMP, TANK)
    assert broker.asked == [[MARKER]]
    assert broker.sleeps_s == [SETTLE_S] * 2, "while all of it comes"
    assert not broker.store.suspended
    assert not broker.check.is_unconfirmed(PUMP)
    assert broker.changes


async def test_a_withdrawal_nobody_announced_suspends_after_asking_again(broker: Broker) -> None:
    broker.retained = {TANK: b"2.0.1", MARKER: Marker("mine", 6).to_bytes()}
    await broker.start(PUMP, TANK)
    assert broker.store.suspended == [{PUMP}]
    assert broker.asked == [[MARKER], [PUMP], [MARKER], [PUMP], [MARKER]]
    assert [one for one in broker.sleeps_s if one != SETTLE_S] == list(ASK_AGAIN_S)


@pytest.mark.parametrize(
    "marker",
    [
        None,
        Marker("another database", 99).to_bytes(),
        Marker("mine", 4).to_bytes(),
        b"not ours",
        b'{"store": 1, "sequence": "x"}',
        b"[]",
    ],
    ids=["none", "of another database", "older than the release", "text", "odd", "a list"],
)
async def test_a_broker_that_lost_its_memory_suspends_nothing(broker: Broker, marker: bytes | None) -> None:
    broker.retained = {MARKER: marker} if marker else {}
    await broker.start(PUMP, TANK)
    assert not broker.store.suspended
    assert not broker.check.is_unconfirmed(PUMP)
    assert len(broker.asked) == 3, "asked once more, and no more than that"


async def test_what_was_never_known_to_be_retained_is_not_missed(broker: Broker) -> None:
    broker.store.known = Retention("mine", {}, 6)
    broker.retained = {MARKER: Marker("mine", 6).to_bytes()}
    await broker.start(PUMP, TANK)
    assert not broker.store.suspended
    assert broker.asked == [[MARKER]]


async def test_what_comes_when_asked_again_is_not_suspended(broker: Broker) -> None:
    """A cluster that has just lost a node brings nothing for some seconds."""
    broker.retained = {TANK: b"2.0.1", MARKER: Marker("mine", 6).to_bytes()}
    plain = broker.replay

    async def replay(topics: Collection[str]) -> None:
        if broker.asked.count([PUMP]) == 1:
            broker.retained[PUMP] = b"4.3.2"
        await plain(topics)

    broker.replay = replay  # type: ignore[method-assign, assignment]  # as the broker comes to itself
    await broker.start(PUMP, TANK)
    assert not broker.store.suspended
    assert not broker.check.is_unconfirmed(PUMP)


async def test_nothing_is_judged_while_a_message_is_stuck_on_its_way_to_the_disk(broker: Broker) -> None:
    """With one message in flight the others wait behind it, and are no more absent than it is."""
    broker.retained = {MARKER: Marker("mine", 6).to_bytes()}
    broker.is_idle = False
    windows = 0
    plain = broker.sleep

    async def sleep(seconds: float) -> None:
        nonlocal windows
        windows += 1
        if windows == 50:
            broker.is_idle = True
            broker.check.came(PUMP, is_retained=True)
            broker.check.came(TANK, is_retained=True)
        await plain(seconds)

    broker.sleep = sleep  # type: ignore[method-assign]  # a disk that is full for a while
    await broker.start(PUMP, TANK)
    assert not broker.store.suspended
    assert windows >= 50


async def test_a_topic_that_may_not_be_read_is_not_judged(broker: Broker) -> None:
    broker.retained = {TANK: b"2.0.1", MARKER: Marker("mine", 6).to_bytes()}
    broker.check.begin()
    broker.check.asked([PUMP, TANK])
    broker.check.refused([PUMP])
    broker.queue.append(TANK)
    await broker.check.carry_out(broker, broker.sleep)
    assert not broker.store.suspended
    assert not broker.check.is_unconfirmed(PUMP)


async def test_the_marker_is_written_after_a_commit_only(broker: Broker) -> None:
    broker.retained = {PUMP: b"4.3.2", TANK: b"2.0.1"}
    for _ in range(3):
        await broker.start(PUMP, TANK)
    assert not broker.published
    broker.check.stored()
    await broker.check.carry_out(broker, broker.sleep)
    assert broker.published == [Marker("mine", 6)]
    assert broker.store.forgotten == [(0, frozenset({PUMP, TANK}))], "what was seen stays"
    broker.store.known = replace(broker.store.known, newest_seq=7)
    broker.check.stored()
    await broker.check.carry_out(broker, broker.sleep)
    assert broker.published[1:] == [Marker("mine", 7)]
    assert broker.store.forgotten[1:] == [(6, frozenset({PUMP, TANK}))]
    assert broker.asked == [[MARKER]] * 3, "read once a connection"
    assert len(broker.sleeps_s) == 3 * 2, "so what is stored later is marked without a wait"


async def test_a_connection_that_ends_has_its_marker_first(broker: Broker) -> None:
    broker.check.stored()
    await broker.check.conclude(broker)
    assert not broker.published, "what is there was not read, so nothing can be said of it"
    broker.retained = {PUMP: b"4.3.2", TANK: b"2.0.1", MARKER: Marker("mine", 5).to_bytes()}
    await broker.start(PUMP, TANK)
    broker.store.known = replace(broker.store.known, newest_seq=7)
    broker.check.stored()
    await broker.check.conclude(broker)
    assert broker.published[-1] == Marker("mine", 7)


async def test_a_marker_is_not_raised_over_what_a_broker_forgot(broker: Broker) -> None:
    """It lost its memory; then one topic is published again. The other is lost there, not withdrawn."""
    broker.retained = {}
    await broker.start(PUMP, TANK)
    broker.check.came(PUMP, is_retained=True)
    broker.store.known = Retention("mine", {PUMP: 7, TANK: 6}, 7)
    broker.check.stored()
    await broker.check.carry_out(broker, broker.sleep)
    assert broker.store.forgotten == [(0, frozenset({PUMP}))]
    assert broker.published == [Marker("mine", 7)]


async def test_a_marker_that_is_refused_is_left_alone(broker: Broker) -> None:
    broker.refuses = BrokerError("no", code="publish_refused")
    broker.check.begin()
    broker.check.stored()
    await broker.check.carry_out(broker, broker.sleep)
    assert not broker.published
    broker.check.begin()
    assert not broker.check.due.is_set()


async def test_a_marker_is_due_until_the_broker_has_it(broker: Broker) -> None:
    broker.refuses = BrokerError("gone", code="connection_lost")
    broker.check.stored()
    with pytest.raises(BrokerError):
        await broker.check.carry_out(broker, broker.sleep)
    broker.refuses = None
    broker.check.begin()
    assert broker.check.due.is_set()
    await broker.check.carry_out(broker, broker.sleep)
    assert broker.published == [Marker("mine", 6)]


async def test_without_a_broker_updates_are_held_for_a_while_only(broker: Broker) -> None:
    broker.check.want(frozenset({PUMP}))
    assert broker.check.is_unconfirmed(PUMP)
    ((seconds, waive),) = broker.timers
    assert seconds == HOLD_S
    waive()
    assert not broker.check.is_unconfirmed(PUMP)
    assert broker.changes == 1


async def test_a_topic_that_is_followed_later_is_waited_for_as_well(broker: Broker) -> None:
    """A spare board runs an older line, of which there is a release from long ago."""
    broker.retained = {PUMP: b"4.3.2", MARKER: Marker("mine", 6).to_bytes()}
    broker.check.want(frozenset({PUMP}))
    await broker.start(PUMP)
    broker.check.want(frozenset({PUMP, TANK}))
    assert broker.check.is_unconfirmed(TANK)
    assert not broker.check.is_unconfirmed(PUMP)
    broker.check.asked([TANK])
    await broker.check.carry_out(broker, broker.sleep)
    assert broker.store.suspended == [{TANK}]
    assert not broker.check.is_unconfirmed(TANK)
    broker.check.want(frozenset({PUMP}))
    broker.check.want(frozenset({PUMP, TANK}))
    assert broker.check.is_unconfirmed(TANK), "it may have changed meanwhile"


async def test_what_is_suspected_is_held_for_as_long_as_it_takes(broker: Broker) -> None:
    broker.retained = {TANK: b"2.0.1", MARKER: Marker("mine", 6).to_bytes()}
    broker.check.want(frozenset({PUMP, TANK}))
    plain, held = broker.sleep, []

    async def sleep(seconds: float) -> None:
        if seconds == ASK_AGAIN_S[-1]:
            for _, waive in broker.timers:
                waive()
            held.append(broker.check.is_unconfirmed(PUMP))
        await plain(seconds)

    broker.sleep = sleep  # type: ignore[method-assign]  # all timers have run out by then
    await broker.start(PUMP, TANK)
    assert held == [True]


async def test_what_may_not_be_read_is_not_waited_for(broker: Broker) -> None:
    broker.check.want(frozenset({PUMP}))
    broker.check.asked([PUMP])
    broker.check.refused([PUMP])
    assert not broker.check.is_unconfirmed(PUMP)
    assert broker.changes == 1, "or nobody would look before something else happens"
    broker.check.refused([PUMP])
    assert broker.changes == 1


async def test_what_has_come_is_told_at_once(broker: Broker) -> None:
    broker.check.want(frozenset({PUMP}))
    broker.check.came(PUMP, is_retained=True)
    assert broker.changes == 1


async def test_what_is_not_retained_is_no_marker(broker: Broker) -> None:
    """The doctor publishes on its topic, to see whether that is allowed."""
    broker.retained = {PUMP: b"4.3.2", TANK: b"2.0.1", MARKER: Marker("mine", 6).to_bytes()}
    await broker.start(PUMP, TANK)
    broker.check.stored()
    await broker.check.carry_out(broker, broker.sleep)
    assert broker.check.take_marker(MARKER, b"", is_retained=False)
    broker.store.known = replace(broker.store.known, newest_seq=7)
    broker.check.stored()
    await broker.check.carry_out(broker, broker.sleep)
    assert broker.store.forgotten == [(6, frozenset({PUMP, TANK}))]


def test_a_broker_that_takes_dots_for_levels_has_the_marker_too(broker: Broker) -> None:
    assert broker.check.take_marker("gatewayd/barn/pi/marker", b"x", is_retained=True)
    assert not broker.check.take_marker(PUMP, b"x", is_retained=True)


async def test_a_failing_disk_ends_no_connection(broker: Broker) -> None:
    failures = [HostError("no", code="disk_failing")]
    plain = broker.store.retention

    async def retention() -> Retention:
        if failures:
            raise failures.pop()
        return await plain()

    broker.store.retention = retention  # type: ignore[method-assign]  # a disk that fails once
    exchange = Exchange(broker, broker, broker, broker.send)  # type: ignore[arg-type]  # enough of each
    broker.check.stored()
    comparing = asyncio.create_task(exchange.compare(broker.check, nullcontext, broker.sleep))
    await until(lambda: broker.published, "the marker")
    comparing.cancel()
    await asyncio.wait([comparing])
    assert comparing.cancelled()
    assert MAX_STORE_BACK_OFF_S in broker.sleeps_s
