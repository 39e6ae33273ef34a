"""A broker that closes the connection over what is forbidden: that is left out, and the rest goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lab.broker_session import OTHER, TOPIC, session_lab
from lab.brokers import (
    CONNECT,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    Mosquitto,
    Packet,
    Peer,
    ScriptedBroker,
    packet,
    until,
)
from lab.configuration import private_file

from gatewayd.mqtt.left_out import AFTER_CLOSE_S, LONGEST_S, LeftOut, Request
from gatewayd.mqtt.login import BrokerError

FORBIDDEN = "/a/tank/u/1.0"
STATUS = "gatewayd/barn/status"
READ, WRITE = Request("subscribe", FORBIDDEN), Request("publish", STATUS)


class Open:
    """A connection that is there."""

    def check_is_open(self) -> None:
        pass


class Desk:
    """Asks, and sees how the connection ends."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.left_out = LeftOut(lambda: self.now_s)

    async def connection(self, *unanswered: Request, was_closed: bool = True) -> bool:
        self.left_out.begin()
        for request in unanswered:
            with pytest.raises(BrokerError):
                async with self.left_out.asking(Open(), [request]):  # type: ignore[arg-type]  # enough of one
                    raise BrokerError("the connection ended", code="connection_lost")
        return self.left_out.ended(was_closed=was_closed)

    async def answer(self, request: Request) -> None:
        async with self.left_out.asking(Open(), [request]):  # type: ignore[arg-type]  # enough of one
            pass


async def test_one_close_is_chance_and_two_are_not() -> None:
    desk = Desk()
    assert not await desk.connection(READ)
    assert desk.left_out.error_of(READ) is None
    assert await desk.connection(READ)
    assert desk.left_out.error_of(READ)
    assert desk.left_out.error_of(WRITE) is None


async def test_a_line_that_goes_silent_is_no_close() -> None:
    desk = Desk()
    for _ in range(5):
        assert not await desk.connection(READ, was_closed=False)
    assert not desk.left_out.errors


async def test_an_answer_clears_a_request() -> None:
    desk = Desk()
    await desk.connection(READ)
    desk.left_out.begin()
    await desk.answer(READ)
    assert not await desk.connection(READ)
    assert not desk.left_out.errors


async def test_a_broker_that_closes_without_being_asked_is_not_suspected_of_more() -> None:
    """As one does whose session another client takes over."""
    desk = Desk()
    for _ in range(5):
        await desk.connection(READ, WRITE)
        await desk.connection()
    assert not desk.left_out.errors
    assert not desk.left_out.is_careful


async def test_a_close_after_a_plain_no_is_laid_to_that() -> None:
    """RabbitMQ refuses a subscription in its answer, and then closes; what was asked then is innocent."""
    desk = Desk()
    for is_known in (False, True):
        desk.left_out.begin()
        desk.left_out.refused(READ, BrokerError("no", code="subscription_refused"))
        with pytest.raises(BrokerError):
            async with desk.left_out.asking(Open(), [WRITE]):  # type: ignore[arg-type]  # enough of one
                raise BrokerError("the connection ended", code="connection_lost")
        assert desk.left_out.ended(was_closed=True) is is_known
    desk.left_out.begin()
    assert desk.left_out.error_of(READ)
    assert desk.left_out.error_of(WRITE) is None
    desk.now_s += AFTER_CLOSE_S
    desk.left_out.begin()
    desk.left_out.refused(READ, BrokerError("no", code="subscription_refused"))
    assert desk.left_out.ended(was_closed=True), "one close is enough now"


async def test_of_several_one_is_found_by_asking_one_after_the_other() -> None:
    desk = Desk()
    await desk.connection(READ, WRITE)
    assert not desk.left_out.is_careful
    assert not await desk.connection(READ, WRITE)
    assert desk.left_out.is_careful
    assert await desk.connection(WRITE)
    assert set(desk.left_out.errors) == {WRITE}


async def test_what_was_left_out_is_asked_for_again_ever_less_often() -> None:
    desk = Desk()
    for _ in range(2):
        await desk.connection(READ)
    waits = []
    for _ in range(9):
        before_s = desk.now_s
        while desk.left_out.error_of(READ):
            desk.now_s += 60
        waits.append(desk.now_s - before_s)
        assert desk.left_out.is_careful, "so that the close can be told from others"
        assert await desk.connection(READ), "one close is enough now"
    assert waits[:3] == [AFTER_CLOSE_S, 2 * AFTER_CLOSE_S, 4 * AFTER_CLOSE_S]
    assert waits[-1] == LONGEST_S
    desk.now_s += LONGEST_S
    await desk.answer(READ)
    assert not desk.left_out.errors
    assert not desk.left_out.is_careful


def closing(*forbidden: str) -> dict[int, Callable[[Peer, Packet], None]]:
    """Close where a topic is forbidden, as MQTT 3.1.1's brokers do."""

    def names(got: Packet) -> bool:
        return any(topic.encode() in got.body for topic in forbidden)

    def subscribe(peer: Peer, got: Packet) -> None:
        if names(got):
            peer.cut()
            return
        count = got.body.count(b"/a/")
        peer.send(packet(SUBACK, got.body[:2] + b"\0" + b"\1" * count))

    def publish(peer: Peer, got: Packet) -> None:
        if names(got):
            peer.cut()
        else:
            peer.send(packet(PUBACK, got.packet_id.to_bytes(2, "big")))

    return {SUBSCRIBE: subscribe, PUBLISH: publish}


async def test_a_broker_that_says_no_and_then_closes_starves_nobody() -> None:
    def subscribe(peer: Peer, got: Packet) -> None:
        # Packet id, properties (none), then topics with one byte of options each.
        topics = got.body[3:].split(b"/a/")[1:]
        codes = [0x87 if FORBIDDEN.encode()[3:] in topic else 1 for topic in topics]
        peer.send(packet(SUBACK, got.body[:2] + b"\0" + bytes(codes)))
        if 0x87 in codes:
            peer.writer.close()

    async with ScriptedBroker({SUBSCRIBE: subscribe}) as broker, session_lab(broker.port) as lab:
        lab.session.set_topics(frozenset({TOPIC, FORBIDDEN}))
        await until(lambda: lab.logged("left out", topic=FORBIDDEN), "the topic being left out")
        await lab.subscribed_to(TOPIC)
        assert list(lab.session.left_out) == [FORBIDDEN]
        await lab.session.publish("gatewayd/barn/devices/pump-1", b"{}")


async def test_a_plain_no_to_a_message_is_told_until_it_is_taken() -> None:
    desk = Desk()
    for ends in (lambda: desk.answer(WRITE), desk.connection):
        desk.left_out.begin()
        with pytest.raises(BrokerError):
            async with desk.left_out.asking(Open(), [WRITE]):  # type: ignore[arg-type]  # enough of one
                raise BrokerError("no", code="publish_refused")
        assert list(desk.left_out.errors) == [WRITE]
        assert desk.left_out.error_of(WRITE) is None, "it is sent again when it changes"
        await ends()
        assert not desk.left_out.errors


async def test_what_an_access_rule_forbids_to_write_is_told(tmp_path: Path) -> None:
    acl = private_file(tmp_path / "acl", b"topic read #\ntopic write gatewayd/barn/devices/+\n")
    with Mosquitto(tmp_path / "m", f"acl_file {acl}") as mosquitto:
        async with session_lab(mosquitto.port) as lab:
            await lab.subscribed(TOPIC)
            await until(lambda: lab.session.left_out, "the status")
            await lab.session.publish("gatewayd/barn/devices/pump-1", b"{}")
            ((topic, error),) = lab.session.left_out.items()
    assert (topic, error.code) == (STATUS, "publish_refused")


async def test_one_forbidden_topic_does_not_starve_the_others() -> None:
    async with ScriptedBroker(closing(FORBIDDEN)) as broker, session_lab(broker.port) as lab:
        lab.session.set_topics(frozenset({TOPIC, OTHER, FORBIDDEN}))
        await until(lambda: FORBIDDEN in lab.session.left_out, "the topic being left out")
        await lab.subscribed_to(TOPIC, OTHER)
        (error,) = lab.session.left_out.values()
        assert (list(lab.session.left_out), error.code) == ([FORBIDDEN], "subscription_refused")
        assert lab.logged("left out", topic=FORBIDDEN, code="subscription_refused")
        assert len(broker.all(CONNECT)) <= 5
        assert len([line for line in lab.log if "another client" in line.get("reason", "")]) <= 1


async def test_a_forbidden_status_does_not_starve_anybody() -> None:
    async with ScriptedBroker(closing(STATUS)) as broker, session_lab(broker.port) as lab:
        lab.session.set_topics(frozenset({TOPIC}))
        await until(lambda: STATUS in lab.session.left_out, "the status being left out")
        await lab.subscribed(TOPIC)
        assert lab.logged("left out", topic=STATUS, code="publish_refused")
        with pytest.raises(BrokerError) as refused:
            await lab.session.publish(STATUS, b"x")
        assert refused.value.code == "publish_refused"
        await lab.session.publish("gatewayd/barn/devices/pump-1", b"{}")


async def test_two_forbidden_topics_and_a_status_are_all_found() -> None:
    report = "gatewayd/barn/devices/tank-1"
    async with ScriptedBroker(closing(FORBIDDEN, OTHER, STATUS)) as broker, session_lab(broker.port) as lab:
        lab.session.set_topics(frozenset({TOPIC, OTHER, FORBIDDEN}))
        await until(lambda: set(lab.session.left_out) == {OTHER, FORBIDDEN, STATUS}, "all three")
        await lab.subscribed_to(TOPIC)
        await lab.session.publish(report, b"{}")


async def test_what_is_allowed_again_is_taken_again() -> None:
    answers = closing(FORBIDDEN)
    async with ScriptedBroker(answers) as broker, session_lab(broker.port) as lab:
        lab.session.set_topics(frozenset({TOPIC, FORBIDDEN}))
        await until(lambda: FORBIDDEN in lab.session.left_out)
        await lab.subscribed_to(TOPIC)
        broker.answer(closing())
        lab.now_s += AFTER_CLOSE_S
        await until(lambda: lab.session.subscribed_topics == {TOPIC, FORBIDDEN}, "the topic")
        assert not lab.session.left_out
