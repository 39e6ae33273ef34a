"""RabbitMQ takes a dot for a level: what was subscribed to as `/a/pump/u/4.3` arrives as `/a/pump/u/4/3`."""

from lab.broker_session import TOPIC, Lab, session_lab
from lab.brokers import PUBACK, UNSUBSCRIBE, ScriptedBroker, publish_v5, text, until

from gatewayd.ota.topic import TopicTemplate

ARRIVES = "/a/pump/u/4/3"


def refusal_codes(lab: Lab) -> dict[str, str]:
    return {topic: error.code for topic, error in lab.session.refused_messages.items()}


async def test_firmware_is_taken_under_the_topic_that_was_subscribed_to(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC, "/a/pump/u/4.3/s", "/a/tank/u/4.3")
        scripted.peer.send(publish_v5(ARRIVES, b"image", 7))
        await until(lambda: scripted.all(PUBACK))
        assert [(message.topic, message.payload) for message in lab.got] == [(TOPIC, b"image")]
        assert not scripted.all(UNSUBSCRIBE)
        assert not refusal_codes(lab)


async def test_what_nobody_follows_any_more_is_unsubscribed_by_its_own_name(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        scripted.peer.send(publish_v5("/a/pump/u/4/2", b"image", 7))
        await until(lambda: scripted.all(UNSUBSCRIBE))
        assert [got.body[3:] for got in scripted.all(UNSUBSCRIBE)] == [text("/a/pump/u/4.2")]
        (dropped,) = lab.logged("message dropped")
        assert (dropped["log_level"], dropped["code"]) == ("warning", "not_ours")
        assert "/a/pump/u/4.2" in dropped["reason"]


async def test_what_cannot_be_told_is_refused_where_it_shows(scripted: ScriptedBroker) -> None:
    template = TopicTemplate("{major}/{minor}/{app_id}")
    stable, dotted, plain = "4/3/x/s", "4/3/x.s", "4/3/y.z"
    async with session_lab(scripted.port, ota_topic=template) as lab:
        await lab.subscribed(stable, dotted, plain)
        scripted.peer.send(publish_v5("4/3/y/z", b"image", 6))  # by this the broker is known
        await until(lambda: len(lab.got) == 1)
        scripted.peer.send(publish_v5(stable, b"image", 7))
        await until(lambda: len(scripted.all(PUBACK)) == 2)
        assert [message.topic for message in lab.got] == [plain]
        assert refusal_codes(lab) == {stable: "ambiguous_topic", dotted: "ambiguous_topic"}
        assert "without dots" in str(lab.session.refused_messages[stable])
