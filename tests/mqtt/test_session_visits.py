"""Metered links: connect, take what is waiting, disconnect; and what keeps a connection a little longer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.broker_session import OTHER, TOPIC, Lab, publisher, retained, session_lab
from lab.brokers import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    Mosquitto,
    Packet,
    Peer,
    ScriptedBroker,
    free_port,
    packet,
    publish_v5,
    until,
)

from gatewayd.config import Periodic
from gatewayd.mqtt.connection import IncomingMessage
from gatewayd.mqtt.duty_cycle import next_visit_s
from gatewayd.mqtt.login import SESSION_EXPIRY_S, BrokerError

STATUS = "gatewayd/barn/status"
EVERY_S, WAIT_S = 21_600, 120
PERIODIC = Periodic(every="6h", wait="2m")  # type: ignore[arg-type]  # as it is written


@pytest.fixture
async def lab(scripted: ScriptedBroker) -> AsyncIterator[Lab]:
    """A session that is subscribed to TOPIC, and sleeps when it once sleeps."""
    async with session_lab(scripted.port, connect=PERIODIC) as lab:
        await lab.subscribed(TOPIC)
        lab.naps.let_go.clear()
        yield lab


def said(scripted: ScriptedBroker) -> list[bytes]:
    """What the gateway said of itself."""
    return [got.body.rsplit(b"\0", 1)[1] for got in scripted.all(PUBLISH) if got.topic == STATUS]


async def asleep(lab: Lab) -> None:
    await until(lambda: lab.logged("sleeping until"), f"sleep; log: {lab.log}")
    assert not lab.session.is_connected
    await asyncio.sleep(0)  # what it said, it does next


async def still_connected(lab: Lab, seconds: float) -> None:
    lab.now_s += seconds
    await lab.looked()
    assert lab.session.is_connected
    assert not lab.logged("sleeping until")


@given(st.floats(0, 1), st.integers(5, 3 * 86_400), st.floats(0, 1e9))
def test_visits_are_a_tenth_earlier_or_later(chance: float, every_s: int, now_s: float) -> None:
    assert 0.9 * every_s - 1e-3 <= next_visit_s(now_s, every_s, chance) - now_s <= 1.1 * every_s + 1e-3
    assert next_visit_s(0, every_s, 0) < next_visit_s(0, every_s, 1), "a hundred gateways would come as one"
    assert next_visit_s(0, every_s, 1) < SESSION_EXPIRY_S / 2, "one visit may fail, and nothing is lost"


def test_durations_are_what_they_say() -> None:
    assert (timedelta(seconds=EVERY_S), timedelta(seconds=WAIT_S)) == (PERIODIC.every, PERIODIC.wait)


async def test_what_is_waiting_is_taken_and_then_the_gateway_sleeps(mosquitto: Mosquitto) -> None:
    async with publisher(mosquitto.port) as other, session_lab(mosquitto.port, connect=PERIODIC) as lab:
        await lab.subscribed(TOPIC)
        lab.naps.let_go.clear()
        for number in range(3):
            lab.now_s += WAIT_S
            await asleep(lab)
            await retained(mosquitto.port, STATUS, b"sleeping")
            assert "Received DISCONNECT from gw" in mosquitto.log()
            assert lab.naps.lengths_s == [EVERY_S - WAIT_S] * (number + 1), "from connect to connect"
            assert lab.session.next_connection_in_s == EVERY_S - WAIT_S
            with pytest.raises(BrokerError):
                await lab.session.publish("report", b"")
            await other.publish(TOPIC, b"%d" % number, retain=False)
            lab.log.clear()
            lab.naps.let_go.set()
            await until(lambda: len(lab.got) > number)  # noqa: B023 - awaited here
            lab.naps.let_go.clear()
            assert lab.session.next_connection_in_s is None
            await retained(mosquitto.port, STATUS, b"online")
            await until(lambda: lab.logged("subscribed"))
        assert [message.payload for message in lab.got] == [b"0", b"1", b"2"]
        await until(lambda: len(lab.connected) == 4)
    await retained(mosquitto.port, STATUS, b"offline")


async def test_one_that_is_stopped_in_its_sleep_stops_at_once(lab: Lab, scripted: ScriptedBroker) -> None:
    lab.now_s += WAIT_S
    await asleep(lab)
    await lab.stop()
    assert said(scripted) == [b"online", b"sleeping"]
    assert len(scripted.all(CONNECT)) == 1


async def test_goodnight_comes_before_disconnect(lab: Lab, scripted: ScriptedBroker) -> None:
    await still_connected(lab, WAIT_S - 1)
    lab.now_s += 1
    await asleep(lab)
    await until(lambda: scripted.all(DISCONNECT))
    assert [got.kind for got in scripted.peer.packets[-2:]] == [PUBLISH, DISCONNECT]
    assert scripted.peer.packets[-1].body == b"", "with a reason the broker would publish the last will"
    assert said(scripted) == [b"online", b"sleeping"]


@pytest.mark.parametrize("begun", [1, 3, 5000])
async def test_a_message_that_is_arriving_is_waited_for(
    lab: Lab, scripted: ScriptedBroker, begun: int
) -> None:
    whole = publish_v5(TOPIC, bytes(100_000), 7)
    scripted.peer.send(whole[:begun])
    await until(lambda: lab.connection.received_of_packet_bytes == begun)
    await still_connected(lab, EVERY_S)
    scripted.peer.send(whole[begun:])
    await until(lambda: scripted.all(PUBACK))
    await still_connected(lab, WAIT_S - 1)
    lab.now_s += 1
    await asleep(lab)


async def test_a_message_restarts_the_wait(lab: Lab, scripted: ScriptedBroker) -> None:
    await still_connected(lab, WAIT_S - 1)
    scripted.peer.send(publish_v5(TOPIC, b"image", 7))
    await until(lambda: scripted.all(PUBACK))
    await still_connected(lab, WAIT_S - 1)
    lab.now_s += 1
    await asleep(lab)


async def test_a_message_is_stored_before_the_gateway_sleeps(scripted: ScriptedBroker) -> None:
    stored = asyncio.Event()

    async def store(_message: IncomingMessage) -> None:
        await stored.wait()

    async with session_lab(scripted.port, connect=PERIODIC, accept=store) as lab:
        await lab.subscribed(TOPIC)
        lab.naps.let_go.clear()
        scripted.peer.send(publish_v5(TOPIC, b"image", 7))
        await until(lambda: lab.got)
        await still_connected(lab, EVERY_S)
        stored.set()
        await until(lambda: scripted.all(PUBACK))
        await still_connected(lab, WAIT_S - 1)
        lab.now_s += 1
        await asleep(lab)


async def test_a_report_is_let_out_and_keeps_nobody_awake_afterwards() -> None:
    held: list[Packet] = []

    def hold(peer: Peer, got: Packet) -> None:
        if got.topic == "report":
            held.append(got)
        else:
            peer.send(packet(PUBACK, got.packet_id.to_bytes(2, "big")))

    async with (
        ScriptedBroker({PUBLISH: hold}) as scripted,
        session_lab(scripted.port, connect=PERIODIC) as lab,
    ):
        await lab.subscribed(TOPIC)
        lab.naps.let_go.clear()
        report = asyncio.create_task(lab.session.publish("report", b"news"))
        await until(lambda: held)
        await still_connected(lab, EVERY_S)
        scripted.peer.send(packet(PUBACK, held[0].packet_id.to_bytes(2, "big")))
        await report
        await asleep(lab)
        assert lab.naps.lengths_s == [0], "the next visit is due already"


async def test_retained_messages_of_a_new_topic_are_waited_for() -> None:
    asked: list[Packet] = []

    def late(peer: Peer, got: Packet) -> None:
        asked.append(got)
        if TOPIC.encode() in got.body:
            peer.send(packet(SUBACK, got.body[:2] + b"\0\1"))

    async with (
        ScriptedBroker({SUBSCRIBE: late}) as scripted,
        session_lab(scripted.port, connect=PERIODIC) as lab,
    ):
        await lab.subscribed(TOPIC)
        lab.naps.let_go.clear()
        lab.session.set_topics(frozenset({TOPIC, OTHER}))
        await until(lambda: len(asked) == 2)
        await still_connected(lab, EVERY_S)
        scripted.peer.send(packet(SUBACK, asked[1].body[:2] + b"\0\1"))
        await until(lambda: OTHER in lab.session.subscribed_topics)
        await still_connected(lab, WAIT_S - 1)
        lab.now_s += 1
        await asleep(lab)


async def test_a_message_that_begins_while_we_say_goodnight_keeps_us() -> None:
    begun = publish_v5(TOPIC, bytes(1000), 7)

    def answer(peer: Peer, got: Packet) -> None:
        first_night = got.body.endswith(b"sleeping") and not any(
            earlier.body.endswith(b"sleeping") for earlier in peer.of(PUBLISH)[:-1]
        )
        peer.send(begun if first_night else b"", packet(PUBACK, got.packet_id.to_bytes(2, "big")))

    async with (
        ScriptedBroker({PUBLISH: answer}) as scripted,
        session_lab(scripted.port, connect=PERIODIC) as lab,
    ):
        await lab.subscribed(TOPIC)
        lab.naps.let_go.clear()
        lab.now_s += WAIT_S
        await until(lambda: said(scripted) == [b"online", b"sleeping", b"online"])
        await until(lambda: scripted.all(PUBACK))
        assert len(lab.got) == 1
        await still_connected(lab, WAIT_S - 1)
        lab.now_s += 1
        await asleep(lab)
        assert len(scripted.all(CONNECT)) == 1


async def test_a_connection_that_is_lost_is_made_again_after_a_back_off(
    lab: Lab, scripted: ScriptedBroker
) -> None:
    lab.naps.let_go.set()
    for number in range(1, 5):
        await until(lambda: said(scripted) == [b"online"] * number)  # noqa: B023 - awaited here
        await until(lambda: len(lab.logged("subscribed")) == number)  # noqa: B023 - awaited here
        if number < 4:
            scripted.peer.cut()
    assert lab.naps.lengths_s == [1.5, 3, 6]
    lab.naps.let_go.clear()
    lab.now_s += WAIT_S
    await asleep(lab)
    assert lab.naps.lengths_s[3:] == [EVERY_S - WAIT_S]


async def test_a_crash_is_offline_and_not_sleep(mosquitto: Mosquitto) -> None:
    async with session_lab(mosquitto.port, connect=PERIODIC) as lab:
        await lab.subscribed(TOPIC)
        await retained(mosquitto.port, STATUS, b"online")
        lab.naps.let_go.clear()
        lab.connection.drop()
        await retained(mosquitto.port, STATUS, b"offline")


async def test_a_broker_that_is_not_there_is_not_left_alone_for_six_hours() -> None:
    async with session_lab(free_port(), connect=PERIODIC) as lab:
        lab.session.set_topics(frozenset({TOPIC}))
        await until(lambda: len(lab.naps.lengths_s) >= 8)
        assert lab.naps.lengths_s[:8] == [1.5, 3, 6, 12, 24, 45, 45, 45]


async def test_a_reload_connects_at_once(lab: Lab, scripted: ScriptedBroker) -> None:
    lab.now_s += WAIT_S
    await asleep(lab)
    lab.session.set_topics(frozenset({TOPIC, OTHER}))
    lab.session.wake()
    await lab.subscribed(TOPIC, OTHER)
    assert len(scripted.all(CONNECT)) == 2
    lab.log.clear()
    await still_connected(lab, WAIT_S - 1)


async def test_a_reload_while_we_say_goodnight_is_not_missed() -> None:
    labs: list[Lab] = []

    def answer(peer: Peer, got: Packet) -> None:
        if got.body.endswith(b"sleeping") and len(labs[0].connected) == 1:
            labs[0].session.wake()
        peer.send(packet(PUBACK, got.packet_id.to_bytes(2, "big")))

    async with (
        ScriptedBroker({PUBLISH: answer}) as scripted,
        session_lab(scripted.port, connect=PERIODIC) as lab,
    ):
        labs.append(lab)
        await lab.subscribed(TOPIC)
        lab.naps.let_go.clear()
        lab.now_s += WAIT_S
        await until(lambda: len(lab.connected) == 2)


async def test_a_reload_while_connected_is_not_made_up_for_later(lab: Lab) -> None:
    lab.session.wake()
    lab.now_s += WAIT_S
    await asleep(lab)
    for _ in range(20):
        await asyncio.sleep(0)
    assert lab.session.next_connection_in_s == EVERY_S - WAIT_S


@pytest.mark.parametrize(("granted_s", "warned"), [(EVERY_S, True), (2 * EVERY_S, False), (None, False)])
async def test_a_broker_that_forgets_us_before_we_return_is_told_of(
    granted_s: int | None, *, warned: bool
) -> None:
    properties = b"" if granted_s is None else b"\x11" + granted_s.to_bytes(4, "big")
    connack = packet(CONNACK, b"\0\0" + bytes([len(properties)]) + properties)
    answers = {CONNECT: lambda peer, _: peer.send(connack)}
    async with ScriptedBroker(answers) as scripted, session_lab(scripted.port, connect=PERIODIC) as lab:
        await lab.subscribed(TOPIC)
        assert bool(lab.logged(code="short_session")) is warned


async def test_mqtt_3_1_1_sleeps_the_same_way() -> None:
    def answer(peer: Peer, got: Packet) -> None:
        peer.send(packet(CONNACK, b"\0\0") if got.body[6] == 4 else packet(CONNACK, b"\0\x84\0"))

    answers = {CONNECT: answer, SUBSCRIBE: lambda p, g: p.send(packet(SUBACK, g.body[:2] + b"\1"))}
    async with ScriptedBroker(answers) as scripted, session_lab(scripted.port, connect=PERIODIC) as lab:
        await lab.subscribed(TOPIC)
        lab.naps.let_go.clear()
        lab.now_s += WAIT_S
        await asleep(lab)
        await until(lambda: scripted.all(DISCONNECT))
        assert scripted.all(CONNECT)[-1].body[7] & 0x02 == 0, "the session stays at the broker"
