"""A message is acknowledged after it is stored, and comes again as long as it is not."""

import asyncio

import aiomqtt
import pytest
from lab.broker_session import OTHER, TOPIC, publisher, session_lab
from lab.brokers import (
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Mosquitto,
    ScriptedBroker,
    packet,
    publish_v5,
    text,
    until,
)

from gatewayd.errors import FirmwareError, HostError
from gatewayd.mqtt.connection import Delivery, IncomingMessage
from gatewayd.mqtt.login import PACKET_OVERHEAD_BYTES
from gatewayd.mqtt.paho_callbacks import READ_BYTES
from gatewayd.mqtt.qos0 import FLOOD_MESSAGES
from gatewayd.mqtt.session import MIB


async def test_no_acknowledgement_before_the_message_is_stored(scripted: ScriptedBroker) -> None:
    stored = asyncio.Event()

    async def store(_message: IncomingMessage) -> None:
        await stored.wait()

    async with session_lab(scripted.port, accept=store) as lab:
        await lab.subscribed(TOPIC)
        scripted.peer.send(publish_v5(TOPIC, b"image", 7))
        await until(lambda: lab.got)
        # Packets keep their order: were there an acknowledgement, it would be here before this.
        await lab.session.publish("marker", b"")
        assert [got.topic for got in scripted.all(PUBLISH)][-1] == "marker"
        assert not scripted.all(PUBACK)
        stored.set()
        await until(lambda: scripted.all(PUBACK))
        assert scripted.all(PUBACK)[0].packet_id == 7
    assert lab.got == [IncomingMessage(TOPIC, b"image", 1, retain=False)]


async def test_what_is_refused_for_good_is_acknowledged_and_logged(scripted: ScriptedBroker) -> None:
    async def refuse(_message: IncomingMessage) -> None:
        raise FirmwareError("far too large", code="too_large")

    async with session_lab(scripted.port, accept=refuse) as lab:
        await lab.subscribed(TOPIC)
        scripted.peer.send(publish_v5(TOPIC, b"image", 7))
        await until(lambda: scripted.all(PUBACK))
        assert lab.logged("message refused", topic=TOPIC, code="too_large", reason="far too large")
        assert len(lab.got) == 1


@pytest.mark.parametrize("error", [HostError("disk full", code="disk_full"), RuntimeError("a bug")])
async def test_what_cannot_be_stored_is_kept_and_tried_again(
    scripted: ScriptedBroker, error: Exception
) -> None:
    failures = [error] * 7

    async def store(_message: IncomingMessage) -> None:
        if failures:
            assert not scripted.all(PUBACK)
            raise failures.pop()

    async with session_lab(scripted.port, accept=store) as lab:
        await lab.subscribed(TOPIC)
        scripted.peer.send(publish_v5(TOPIC, b"image", 7))
        await until(lambda: scripted.all(PUBACK))
        assert lab.naps.lengths_s == [1.5, 3, 6, 12, 22.5, 22.5, 22.5]
        assert len(lab.logged("message not stored", topic=TOPIC, reason=str(error))) == 7
        assert len(lab.got) == 8
        assert len(scripted.all(CONNECT)) == 1


async def test_a_cut_before_the_acknowledgement_brings_the_message_again(mosquitto: Mosquitto) -> None:
    blocked = asyncio.Event()
    calls: list[str] = []

    async def store(_message: IncomingMessage) -> None:
        calls.append("begun")
        if len(calls) == 1:
            await blocked.wait()
        calls.append("stored")

    async with session_lab(mosquitto.port, accept=store) as lab, publisher(mosquitto.port) as other:
        await lab.subscribed(TOPIC)
        await other.publish(TOPIC, b"image", retain=False)
        await until(lambda: calls)
        lab.connection.drop()
        await until(lambda: "stored" in calls, "the second delivery")
        assert calls == ["begun", "begun", "stored"]
        assert [message.payload for message in lab.got] == [b"image", b"image"]
        await other.publish(TOPIC, b"next", retain=False)
        await until(lambda: lab.got[-1].payload == b"next")


async def test_what_was_not_stored_comes_to_the_next_process(mosquitto: Mosquitto) -> None:
    async def block(_message: IncomingMessage) -> None:
        await asyncio.Event().wait()

    async with publisher(mosquitto.port) as other:
        async with session_lab(mosquitto.port, accept=block) as first:
            await first.subscribed(TOPIC)
            await other.publish(TOPIC, b"in hand", retain=False)
            await until(lambda: first.got)
        await other.publish(TOPIC, b"while off", retain=False)
        async with session_lab(mosquitto.port) as second:
            await second.subscribed(TOPIC)
            await until(lambda: len(second.got) == 2)
            assert [message.payload for message in second.got] == [b"in hand", b"while off"]
            assert second.logged("connected", session="kept")


async def test_an_acknowledged_message_does_not_come_again(mosquitto: Mosquitto) -> None:
    async with publisher(mosquitto.port) as other:
        async with session_lab(mosquitto.port) as first:
            await first.subscribed(TOPIC)
            await other.publish(TOPIC, b"one", retain=False)
            await until(lambda: first.got)
            # Answers come in order, and this one comes after the broker has read the acknowledgement.
            await first.session.publish("marker", b"")
        async with session_lab(mosquitto.port) as second:
            await second.subscribed(TOPIC, OTHER)
            await other.publish(TOPIC, b"two", retain=False)
            await until(lambda: second.got)
            assert [message.payload for message in second.got] == [b"two"]


async def test_a_late_acknowledgement_does_not_reach_the_next_connection(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        first = lab.connection
        scripted.peer.send(publish_v5(TOPIC, b"image", 7))
        await until(lambda: scripted.all(PUBACK))
        first.drop()
        await until(lambda: len(scripted.peers) == 2 and lab.session.is_connected)
        first.acknowledge(Delivery(lab.got[0], 7))
        await lab.session.publish("marker", b"")
        assert not scripted.peer.of(PUBACK)


async def test_a_publisher_with_qos_2_is_received_with_qos_1(mosquitto: Mosquitto) -> None:
    async with session_lab(mosquitto.port) as lab:
        await lab.subscribed(TOPIC)
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as deployer:
            await deployer.publish(TOPIC, b"image", qos=2, retain=True)
        await until(lambda: lab.got)
        assert lab.got == [IncomingMessage(TOPIC, b"image", 1, retain=True)]


async def test_one_image_at_a_time_is_in_flight(mosquitto: Mosquitto) -> None:
    stored = asyncio.Event()

    async def store(_message: IncomingMessage) -> None:
        await stored.wait()

    async with session_lab(mosquitto.port, accept=store) as lab, publisher(mosquitto.port) as other:
        await lab.subscribed(TOPIC)
        for number in range(5):
            await other.publish(TOPIC, b"%d" % number, retain=False)
        await until(lambda: lab.got)
        await lab.session.publish("marker", b"")
        assert lab.connection.messages_in == 1
        stored.set()
        await until(lambda: len(lab.got) == 5)
        assert [message.payload for message in lab.got] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_message_that_is_far_too_large_is_cut_and_blocks_nothing(mosquitto: Mosquitto) -> None:
    limit = MIB + PACKET_OVERHEAD_BYTES
    async with (
        session_lab(mosquitto.port, max_message_mib=1) as lab,
        publisher(mosquitto.port) as other,
    ):
        await lab.subscribed(TOPIC)
        await other.publish(TOPIC, bytes(20 * MIB), retain=True)
        await other.publish(TOPIC, b"small", retain=False)
        await until(lambda: len(lab.got) == 2)
        assert MIB < len(lab.got[0].payload) <= limit + READ_BYTES, "the intake must see that it is too large"
        assert lab.got[1].payload == b"small"


def qos_0(payload: bytes, *, topic: str = TOPIC, retained: bool = False) -> bytes:
    return packet(PUBLISH, text(topic) + b"\0" + payload, flags=1 if retained else 0)


@pytest.mark.parametrize(("size_bytes", "fit"), [(MIB, 2), (64 * 1024, 32), (10, 382)])
async def test_of_qos_0_no_more_waits_than_two_messages(
    scripted: ScriptedBroker, size_bytes: int, fit: int
) -> None:
    stored = asyncio.Event()

    async def store(message: IncomingMessage) -> None:
        await stored.wait()
        if message.qos == 0:
            raise FirmwareError("no", code="qos0")

    count = 2 * fit + 10
    async with session_lab(scripted.port, accept=store, max_message_mib=1) as lab:
        await lab.subscribed(TOPIC)
        scripted.peer.send(publish_v5(TOPIC, b"first", 6))
        await until(lambda: lab.got)
        for number in range(count):
            scripted.peer.send(qos_0(bytes(size_bytes), retained=number == count - 1))
        scripted.peer.send(publish_v5(TOPIC, b"genuine", 7))
        await until(lambda: lab.connection.messages_in == count + 2)
        stored.set()
        await until(lambda: len(scripted.all(PUBACK)) == 2, "the genuine one, behind what waited")
        assert [message.qos for message in lab.got] == [1, *[0] * fit, 1], "only QoS 0 is dropped"
        assert len(lab.logged("message refused")) == 1, "a flood does not flood the log"
        assert not scripted.all(UNSUBSCRIBE)
        lab.naps.report.set()
        await until(lambda: lab.logged("QoS 0 dropped", code="qos0_flood", messages=count - fit))
        await until(lambda: len(scripted.all(SUBSCRIBE)) == 2, "the dropped retained one is asked for again")


async def test_the_largest_message_arrives_whole(mosquitto: Mosquitto) -> None:
    image = bytes(range(256)) * (MIB // 256)
    async with session_lab(mosquitto.port, max_message_mib=1) as lab, publisher(mosquitto.port) as other:
        await lab.subscribed(TOPIC)
        await other.publish(TOPIC, image, retain=False)
        await until(lambda: lab.got)
        assert lab.got[0].payload == image


async def test_after_a_flood_the_broker_gets_another_chance(scripted: ScriptedBroker) -> None:
    """Mosquitto drops what it counts as in flight when a thousand packets wait; it comes on the next."""
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        scripted.peer.send(*[qos_0(b"x")] * (FLOOD_MESSAGES - 1))
        await until(lambda: len(lab.got) == FLOOD_MESSAGES - 1)
        lab.naps.flood.set()
        await until(lambda: not lab.naps.flood.is_set())
        await lab.session.publish("marker", b"")
        assert len(scripted.all(CONNECT)) == 1, "so many are no flood"
        scripted.peer.send(*[qos_0(b"x")] * FLOOD_MESSAGES)
        await until(lambda: len(lab.got) == 2 * FLOOD_MESSAGES - 1)
        lab.naps.flood.set()
        await until(lambda: len(lab.connected) == 2, "another connection")
        assert scripted.peers[0].of(DISCONNECT), "politely: the last will stays with the broker"
        assert not lab.naps.lengths_s, "at once"
        assert lab.logged("after a flood", code="qos0_flood")
