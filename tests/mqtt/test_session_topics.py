"""Subscriptions follow the wanted topics by the difference, across connections and processes."""

from lab.broker_session import OTHER, TOPIC, publisher, session_lab
from lab.brokers import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    SUBACK,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Mosquitto,
    Packet,
    Peer,
    ScriptedBroker,
    packet,
    publish_v5,
    text,
    until,
)

SESSION_PRESENT, SESSION_NEW = packet(CONNACK, b"\1\0\0"), packet(CONNACK, b"\0\0\0")


def subscription(topic: str, retain_handling: int) -> bytes:
    """A topic of a SUBSCRIBE: QoS 1, retain as published."""
    return text(topic) + bytes([retain_handling << 4 | 0x08 | 0x01])


def asked(got: Packet) -> bytes:
    """What a SUBSCRIBE or UNSUBSCRIBE says after packet id and properties."""
    return got.body[3:]


async def test_one_subscription_per_topic_and_nothing_said_twice(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        await lab.subscribed(TOPIC)
        await lab.session.publish("marker", b"")
        assert [asked(got) for got in scripted.all(SUBSCRIBE)] == [subscription(TOPIC, 0)]
        assert not scripted.all(UNSUBSCRIBE)


async def test_only_the_difference_is_said(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed("a", "b")
        await lab.subscribed("b", "c")
        assert [asked(got) for got in scripted.all(SUBSCRIBE)] == [
            subscription("a", 0) + subscription("b", 0),
            subscription("c", 0),
        ]
        assert [asked(got) for got in scripted.all(UNSUBSCRIBE)] == [text("a")]


async def test_nothing_connects_before_the_topics_are_known(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        # One pass of the loop would already have a task connect.
        async with publisher(scripted.port):
            assert len(scripted.all(CONNECT)) == 1
        lab.session.set_topics(frozenset())
        await until(lambda: lab.session.is_connected)
        assert not scripted.all(SUBSCRIBE)


async def test_a_kept_session_is_subscribed_once_more_and_brings_no_retained_message() -> None:
    kept = [SESSION_NEW, SESSION_PRESENT]
    async with (
        ScriptedBroker({CONNECT: lambda peer, _: peer.send(kept.pop(0))}) as scripted,
        session_lab(scripted.port) as lab,
    ):
        await lab.subscribed(TOPIC)
        scripted.peer.cut()
        await until(lambda: len(lab.connected) == 2)
        await until(lambda: scripted.peer.of(SUBSCRIBE))
        await lab.subscribed(TOPIC, OTHER)
        assert [asked(got) for got in scripted.peer.of(SUBSCRIBE)] == [
            subscription(TOPIC, 1),
            subscription(OTHER, 0),
        ], "of the other topic, which the session may hold already, nothing was asked for yet"


async def test_what_another_client_of_our_name_unsubscribed_is_subscribed_again(mosquitto: Mosquitto) -> None:
    async with session_lab(mosquitto.port) as lab, publisher(mosquitto.port) as other:
        await lab.subscribed(TOPIC)
        lab.naps.let_go.clear()  # ours does not come back meanwhile, and throw the other one out
        async with publisher(mosquitto.port, client_id="gw", session_expiry_s=60) as usurper:
            await usurper.unsubscribe([TOPIC])
            await other.publish(TOPIC, b"meanwhile", retain=True)
        lab.naps.let_go.set()
        await until(lambda: lab.got, "the retained message of a new subscription")
        assert lab.logged("connected", session="kept")


async def test_what_another_client_of_our_name_acknowledged_comes_again(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        properties = b"\x1f" + text("bye")
        scripted.peer.send(packet(DISCONNECT, b"\x8e" + bytes([len(properties)]) + properties))
        await until(lambda: len(lab.connected) == 2)
        await until(lambda: scripted.peer.of(SUBSCRIBE))
        scripted.peer.cut()
        await until(lambda: len(lab.connected) == 3 and scripted.peer.of(SUBSCRIBE))
        await lab.session.publish("marker", b"")
        assert len(scripted.peer.of(SUBSCRIBE)) == 1, "not before we are alone"
        lab.naps.steady.set()
        await until(lambda: len(scripted.peer.of(SUBSCRIBE)) == 2)
        assert asked(scripted.peer.of(SUBSCRIBE)[1]) == subscription(TOPIC, 0)
        scripted.peer.cut()
        await until(lambda: len(lab.connected) == 4 and scripted.peer.of(SUBSCRIBE))
        await lab.session.publish("marker", b"")
        assert len(scripted.peer.of(SUBSCRIBE)) == 1, "once"
        assert len(lab.logged("alone again")) == 1


async def test_a_lost_session_is_subscribed_anew_with_retained_messages(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        scripted.peer.cut()
        await until(lambda: len(scripted.all(SUBSCRIBE)) == 2)
        assert [asked(got) for got in scripted.peer.of(SUBSCRIBE)] == [subscription(TOPIC, 0)]


async def test_a_start_asks_for_what_is_retained_though_the_session_was_kept(mosquitto: Mosquitto) -> None:
    async with publisher(mosquitto.port) as other:
        await other.publish(TOPIC, b"4.3.2", retain=True)
        await other.publish(OTHER, b"4.4.0", retain=True)
        async with session_lab(mosquitto.port) as before:
            await before.subscribed(TOPIC, OTHER)
            await until(lambda: len(before.got) == 2)
        # Now the state directory is restored from a backup made before both; the broker knows nothing of it.
        async with session_lab(mosquitto.port) as restored:
            await restored.subscribed(TOPIC)
            await until(lambda: len(restored.got) == 1, "what is retained, once more")
            assert restored.logged("connected", session="kept")
            # A device says only later that it runs another line, to which the old session is subscribed.
            await restored.subscribed(TOPIC, OTHER)
            await until(lambda: len(restored.got) == 2, "what is retained on the other topic")
            await restored.session.publish("marker", b"")  # by then the last acknowledgement has left
            restored.connection.drop()
            await until(lambda: len(restored.logged("subscribed")) == 3, "the second connection")
            await other.publish(TOPIC, b"4.3.3", retain=True)
            await until(lambda: len(restored.got) == 3)
            assert [message.payload for message in restored.got] == [b"4.3.2", b"4.4.0", b"4.3.3"], (
                "nothing is downloaded twice on a live session"
            )


async def test_a_topic_nobody_wants_any_more_is_dropped_and_unsubscribed(mosquitto: Mosquitto) -> None:
    async with publisher(mosquitto.port) as other:
        async with session_lab(mosquitto.port) as first:
            await first.subscribed(TOPIC, OTHER)
        await other.publish(OTHER, b"for nobody", retain=True)
        async with session_lab(mosquitto.port) as second:
            await second.subscribed(TOPIC)
            await until(lambda: second.logged("unsubscribed", topics=[OTHER]))
            assert not second.got
            assert second.logged("message dropped", topic=OTHER)
            # Wanted again, the retained message comes back.
            await second.subscribed(TOPIC, OTHER)
            await until(lambda: second.got)
            assert second.got[0].payload == b"for nobody"


async def test_a_dropped_message_is_acknowledged(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        scripted.peer.send(publish_v5(OTHER, b"image", 9))
        await until(lambda: scripted.all(PUBACK))
        await until(lambda: scripted.all(UNSUBSCRIBE))
        assert [asked(got) for got in scripted.all(UNSUBSCRIBE)] == [text(OTHER)]
        assert not lab.got


async def test_a_refused_subscription_is_named_and_tried_with_the_next_connection() -> None:
    answers = [b"\x87", b"\1"]

    def answer(peer: Peer, got: Packet) -> None:
        peer.send(packet(SUBACK, got.body[:2] + b"\0" + answers.pop(0)))

    async with ScriptedBroker({SUBSCRIBE: answer}) as scripted, session_lab(scripted.port) as lab:
        lab.session.set_topics(frozenset({TOPIC}))
        await until(lambda: lab.logged("refuses a subscription", topic=TOPIC))
        assert "Not authorized" in lab.logged(code="subscription_refused")[0]["reason"]
        scripted.peer.cut()
        await lab.subscribed(TOPIC)


async def test_retained_firmware_comes_when_a_device_needs_it(mosquitto: Mosquitto) -> None:
    async with publisher(mosquitto.port) as other, session_lab(mosquitto.port) as lab:
        await other.publish(TOPIC, b"4.3", retain=True)
        await other.publish(OTHER, b"4.4", retain=True)
        await lab.subscribed(TOPIC)
        await until(lambda: lab.got)
        await lab.subscribed(OTHER)
        await until(lambda: len(lab.got) == 2)
        assert [(message.topic, message.payload) for message in lab.got] == [(TOPIC, b"4.3"), (OTHER, b"4.4")]
        assert all(message.retain for message in lab.got)
        await other.publish(TOPIC, b"too late", retain=False)
        await other.publish(OTHER, b"in time", retain=False)
        await until(lambda: len(lab.got) == 3)
        assert lab.got[2].payload == b"in time"
