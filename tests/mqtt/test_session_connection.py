"""The session outlives what brokers, networks and other clients do to it."""

import asyncio
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from lab.broker_session import TOPIC, Lab, publisher, retained, session_lab
from lab.brokers import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    Mosquitto,
    Packet,
    Peer,
    ScriptedBroker,
    amqtt_broker,
    free_port,
    packet,
    password_file,
    text,
    until,
)

from gatewayd.mqtt import login, session
from gatewayd.mqtt.connection import STALL_MIN_BYTES, STALL_WINDOW_S
from gatewayd.mqtt.login import BrokerError

STATUS = "gatewayd/barn/status"
RIGHT, WRONG = "right-secret", "wrong-secret"


async def test_broker_comes_up_after_the_gateway(tmp_path: Path) -> None:
    mosquitto = Mosquitto(tmp_path)
    async with session_lab(mosquitto.port) as lab:
        lab.session.set_topics(frozenset({TOPIC}))
        await until(lambda: len(lab.logged("no connection", code="broker_unreachable")) >= 3)
        assert not lab.session.is_connected
        assert "Connection refused" in lab.log[0]["reason"]
        assert f"127.0.0.1:{mosquitto.port}" in lab.log[0]["reason"]
        assert lab.naps.lengths_s[:3] == [1.5, 3, 6]
        with mosquitto:
            await lab.subscribed(TOPIC)
            await lab.stop()


async def test_broker_restarts_and_has_forgotten_everything(tmp_path: Path) -> None:
    mosquitto = Mosquitto(tmp_path)
    with mosquitto:
        async with session_lab(mosquitto.port) as lab:
            await lab.subscribed(TOPIC)
            mosquitto.kill()
            await until(lambda: not lab.session.is_connected)
            mosquitto.start()
            await until(lambda: len(lab.connected) == 2)
            await lab.subscribed(TOPIC)
            await retained(mosquitto.port, STATUS, b"online")
            async with publisher(mosquitto.port) as other:
                await other.publish(TOPIC, b"image", retain=False)
            await until(lambda: lab.got)


async def test_a_name_that_does_not_resolve() -> None:
    async with session_lab(1883, host="no-such-host.invalid") as lab:
        lab.session.set_topics(frozenset())
        await until(lambda: len(lab.logged(code="broker_unreachable")) >= 2)
        assert "no-such-host.invalid:1883 cannot be reached" in lab.log[0]["reason"]


async def test_a_host_name_that_cannot_be_one() -> None:
    async with session_lab(1883, host="a..b") as lab:
        lab.session.set_topics(frozenset())
        await until(lambda: lab.logged(code="broker_unreachable"))


async def test_another_client_with_the_same_id_is_named(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        # With a reason string: paho 2.1 overlooks the code of a DISCONNECT that has nothing after it.
        properties = b"\x1f" + text("bye")
        scripted.peer.send(packet(DISCONNECT, b"\x8e" + bytes([len(properties)]) + properties))
        await until(lambda: len(lab.connected) == 2)
        assert "another client with id gw" in lab.logged(code="taken_over")[0]["reason"]
        assert lab.naps.lengths_s == [45], "two gateways would throw each other out in a tight loop"
        scripted.peer.cut()  # the next time the broker gives no reason
        await until(lambda: lab.logged(code="connection_lost"))
        assert "another client with id gw" in lab.logged(code="connection_lost")[0]["reason"]


async def test_another_client_with_the_same_id_is_suspected(mosquitto: Mosquitto) -> None:
    async with session_lab(mosquitto.port) as lab:
        await lab.subscribed(TOPIC)
        for number in range(1, 4):
            async with publisher(mosquitto.port, client_id="gw"):
                await until(lambda: len(_ends(lab)) == number)  # noqa: B023 - awaited here
            await until(lambda: len(lab.connected) == number + 1)  # noqa: B023 - awaited here
            lab.now_s += 60
        suspected = ["another client with id gw" in line["reason"] for line in _ends(lab)]
        if _ends(lab)[0]["code"] == "taken_over":  # mosquitto says so; up to 2.0.11 it just closed
            assert suspected == [True, True, True]
            assert lab.naps.lengths_s == [45, 45, 45]
        else:
            assert suspected == [False, True, True]
            assert lab.naps.lengths_s == [1.5, 3, 6]


def _ends(lab: Lab) -> list[dict[str, Any]]:
    return [*lab.logged(code="connection_lost"), *lab.logged(code="taken_over")]


async def test_wrong_credentials_are_told_and_tried_again_slowly(tmp_path: Path) -> None:
    passwords = password_file(tmp_path / "passwords", {"barn": RIGHT})
    with Mosquitto(tmp_path / "m", "allow_anonymous false", f"password_file {passwords}") as mosquitto:
        async with session_lab(mosquitto.port, username="barn", password=WRONG) as lab:
            lab.session.set_topics(frozenset())
            await until(lambda: len(lab.logged(code="bad_credentials")) >= 2)
            assert lab.naps.lengths_s[:2] == [45, 45]
            assert "refuses user barn" in lab.log[0]["reason"]
            assert WRONG not in str(lab.log)
        async with session_lab(mosquitto.port, username="barn", password=RIGHT) as lab:
            await lab.subscribed(TOPIC)


async def test_a_forbidden_last_will_is_named_as_a_possible_reason() -> None:
    def refuse(peer: Peer, got: Packet) -> None:
        peer.send(packet(CONNACK, b"\0\x87\0" if got.body[6] == 5 else b"\0\5"))

    for answer, code in ((refuse, "bad_credentials"), (lambda peer, _: peer.cut(), "no_connack")):
        async with ScriptedBroker({CONNECT: answer}) as scripted, session_lab(scripted.port) as lab:
            lab.naps.let_go.clear()
            lab.session.set_topics(frozenset())
            await until(lambda: lab.logged("no connection", code=code))  # noqa: B023 - awaited here
            reason = lab.log[0]["reason"]
            assert "is the last will forbidden, a retained message to gatewayd/barn/status?" in reason
            assert "`gatewayctl doctor` tries" in reason


async def test_a_wrong_password_is_not_laid_to_the_last_will() -> None:
    def refuse(peer: Peer, _got: Packet) -> None:
        peer.send(packet(CONNACK, b"\0\x86\0"))

    async with ScriptedBroker({CONNECT: refuse}) as scripted, session_lab(scripted.port) as lab:
        lab.naps.let_go.clear()
        lab.session.set_topics(frozenset())
        await until(lambda: lab.logged("no connection", code="bad_credentials"))
        assert "will" not in lab.log[0]["reason"]


async def test_back_off_starts_over_after_a_steady_connection(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        for number in range(2, 5):
            scripted.peer.cut()
            # Cut before it is answered, SUBSCRIBE might be what the broker closes over.
            await until(lambda: len(lab.logged("subscribed")) == number)  # noqa: B023 - awaited here
        assert lab.naps.lengths_s == [1.5, 3, 6]
        lab.now_s += 120
        scripted.peer.cut()
        await until(lambda: len(lab.connected) == 5)
        assert lab.naps.lengths_s[3:] == [1.5]


async def test_another_client_with_the_same_id_is_suspected_with_3_1_1() -> None:
    def answer(peer: Peer, got: Packet) -> None:
        peer.send(packet(CONNACK, b"\0\0" if got.body[6] == 4 else b"\0\x84\0"))

    async with ScriptedBroker({CONNECT: answer}) as scripted, session_lab(scripted.port) as lab:
        lab.session.set_topics(frozenset())
        for number in range(1, 4):
            # Cut before it is answered, `online` might be what the broker closes over.
            await until(lambda: len(lab.connected) == number and scripted.peer.of(PUBLISH))  # noqa: B023 - awaited here
            scripted.peer.cut()  # 3.1.1 has no DISCONNECT with a reason
            await until(lambda: len(_ends(lab)) == number)  # noqa: B023 - awaited here
        suspected = ["is there another client with id gw?" in line["reason"] for line in _ends(lab)]
        assert suspected == [False, True, True]


REFUSALS = {
    "as MQTT 5 says": packet(CONNACK, b"\0\x84\0"),
    "as MQTT 3.1.1 says": packet(CONNACK, b"\0\1"),
    "by closing": b"",
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_falls_back_to_3_1_1_and_remembers_it(refusal: bytes) -> None:
    def answer(peer: Peer, got: Packet) -> None:
        if got.body[6] == 4:
            peer.send(packet(CONNACK, b"\0\0"))
        elif refusal:
            peer.send(refusal)
        else:
            peer.cut()

    async with ScriptedBroker({CONNECT: answer}) as scripted, session_lab(scripted.port) as lab:
        lab.session.set_topics(frozenset())
        await until(lambda: lab.session.is_connected)
        assert lab.logged("connected", mqtt="3.1.1")
        assert not lab.naps.lengths_s
        scripted.peer.cut()
        await until(lambda: len(lab.connected) == 2)
        assert [got.body[6] for got in scripted.all(CONNECT)] == [5, 4, 4]
        assert [got.body[7] & 0x02 for got in scripted.all(CONNECT)] == [0, 0, 0], "no clean start"


async def test_a_broker_that_closes_on_both_is_not_taken_for_an_old_one() -> None:
    answers = [b"", b"", packet(CONNACK, b"\0\0\0")]

    def answer(peer: Peer, _got: Packet) -> None:
        peer.send(reply) if (reply := answers.pop(0)) else peer.cut()

    async with ScriptedBroker({CONNECT: answer}) as scripted, session_lab(scripted.port) as lab:
        lab.session.set_topics(frozenset())
        await until(lambda: lab.session.is_connected)
        assert lab.logged("no connection", code="no_connack")
        assert [got.body[6] for got in scripted.all(CONNECT)] == [5, 4, 5]


async def test_embedded_broker_speaks_3_1_1(monkeypatch: pytest.MonkeyPatch) -> None:
    # amqtt does not answer a CONNECT of MQTT 5 at all.
    monkeypatch.setattr(login, "CONNECT_TIMEOUT_S", 0.2)
    async with amqtt_broker() as port, session_lab(port) as lab:
        await lab.subscribed(TOPIC)
        assert lab.logged("connected", mqtt="3.1.1")
        await lab.session.publish(TOPIC, b"image")
        await until(lambda: lab.got)
        assert (lab.got[0].payload, lab.got[0].qos) == (b"image", 1)
        lab.connection.drop()
        await until(lambda: len(lab.connected) == 2)
        await lab.subscribed(TOPIC)


async def test_connect_asks_for_a_lasting_session_and_one_message_at_a_time(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        lab.session.set_topics(frozenset())
        await until(lambda: lab.session.is_connected)
        body = scripted.all(CONNECT)[0].body
        assert body[7] & 0x02 == 0, "clean start would throw the session away"
        assert b"\x11" + (7 * 24 * 3600).to_bytes(4, "big") in body, "session expiry"
        assert b"\x21\x00\x01" in body, "receive maximum"
        assert b"\x27" not in body[10:21], "mosquitto would stop delivering at the first larger message"
        assert text("gw") in body
        assert text(STATUS) + text("offline") in body, "last will"


async def test_online_while_connected_and_offline_after(mosquitto: Mosquitto) -> None:
    async with session_lab(mosquitto.port) as lab:
        await lab.subscribed(TOPIC)
        await retained(mosquitto.port, STATUS, b"online")
    await retained(mosquitto.port, STATUS, b"offline")
    assert "Received DISCONNECT from gw" in mosquitto.log()


async def test_last_will_after_a_crash(mosquitto: Mosquitto) -> None:
    async with session_lab(mosquitto.port) as lab:
        await lab.subscribed(TOPIC)
        await retained(mosquitto.port, STATUS, b"online")
        lab.naps.let_go.clear()
        lab.connection.drop()
        await retained(mosquitto.port, STATUS, b"offline")
        lab.naps.let_go.set()
        await retained(mosquitto.port, STATUS, b"online")


async def test_goodbye_comes_before_disconnect(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
    await until(lambda: scripted.all(DISCONNECT))
    last = scripted.peer.packets[-2:]
    assert [got.kind for got in last] == [PUBLISH, DISCONNECT]
    assert (last[0].topic, last[0].flags & 1, last[0].body.endswith(b"offline")) == (STATUS, 1, True)


async def test_cancellation_is_not_lost_while_connecting(
    scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting = asyncio.Event()

    async def swallow(_self: aiomqtt.Client) -> None:
        # What asyncio.wait_for of Python 3.11 does when CONNACK and the cancellation come together.
        connecting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise aiomqtt.MqttError("too late") from None

    monkeypatch.setattr(aiomqtt.Client, "__aenter__", swallow)
    async with session_lab(scripted.port) as lab:
        lab.session.set_topics(frozenset())
        await connecting.wait()
        await lab.stop()


async def test_a_broker_that_does_not_answer_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "GOODBYE_S", 0.05)
    async with ScriptedBroker({PUBLISH: lambda _peer, _got: None}) as scripted:
        async with session_lab(scripted.port) as lab:
            await lab.subscribed(TOPIC)
        assert lab.logged("disconnected before `offline` was confirmed")


async def test_a_message_that_dribbles_ends_the_connection(scripted: ScriptedBroker) -> None:
    begun = packet(PUBLISH, bytes(200_000), flags=2)

    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        connection = lab.connection

        async def receive(start: int, stop: int) -> None:
            scripted.peer.send(begun[start:stop])
            await until(lambda: connection.received_of_packet_bytes == stop)
            await lab.naps.tick()

        await receive(0, 10)
        await receive(10, 5000)
        await receive(5000, 8000)
        assert lab.session.is_connected
        await receive(8000, 8100)
        await until(lambda: lab.logged(code="stalled"))
        assert "stopped coming in at 8100 bytes: 100 came" in lab.logged(code="stalled")[0]["reason"]
        await until(lambda: len(lab.connected) == 2)


@pytest.mark.parametrize("per_window_bytes", [0, 1, STALL_MIN_BYTES - 1])
async def test_a_broker_that_announces_256_mib_and_dribbles_is_dropped_within_a_minute(
    scripted: ScriptedBroker, per_window_bytes: int
) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        connection = lab.connection
        scripted.peer.send(b"\x32\xff\xff\xff\x7f")  # PUBLISH, and 268,435,455 bytes to come
        await until(lambda: connection.received_of_packet_bytes == 5)
        await lab.naps.tick()
        assert lab.session.is_connected
        scripted.peer.send(bytes(per_window_bytes))
        await until(lambda: connection.received_of_packet_bytes == 5 + per_window_bytes)
        await lab.naps.tick()
        await until(lambda: lab.logged(code="stalled"))
        assert 3 * STALL_WINDOW_S <= 60, "the packet may begin just after a window did"
        await until(lambda: len(lab.connected) == 2)


async def test_a_packet_of_which_not_even_the_length_comes_is_given_up(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        connection = lab.connection
        scripted.peer.send(b"\x32\xff")
        await until(lambda: connection.received_of_packet_bytes == 2)
        await lab.naps.tick()
        await lab.naps.tick()
        await until(lambda: lab.logged(code="stalled"))


async def test_publish_without_a_connection() -> None:
    async with session_lab(free_port()) as lab:
        with pytest.raises(BrokerError) as caught:
            await lab.session.publish("topic", b"")
        assert caught.value.code == "not_connected"


async def test_publish_when_the_connection_ends_before_the_answer() -> None:
    async with (
        ScriptedBroker({PUBLISH: lambda _peer, _got: None}) as scripted,
        session_lab(scripted.port) as lab,
    ):
        await lab.subscribed(TOPIC)
        waiting = asyncio.create_task(lab.session.publish("topic", b""))
        await until(lambda: any(got.topic == "topic" for got in scripted.all(PUBLISH)))
        scripted.peer.cut()
        with pytest.raises(BrokerError) as caught:
            await waiting
        assert caught.value.code == "not_connected"


async def test_publish_that_the_broker_refuses(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read #\n")
    with Mosquitto(tmp_path / "m", f"acl_file {rules}") as mosquitto:
        async with session_lab(mosquitto.port) as lab:
            await lab.subscribed(TOPIC)
            with pytest.raises(BrokerError, match="Not authorized") as caught:
                await lab.session.publish("topic", b"")
            assert caught.value.code == "publish_refused"
            await until(lambda: lab.logged("refuses our status", topic=STATUS))
            assert lab.session.is_connected


async def test_puback_of_a_stranger_is_ignored(scripted: ScriptedBroker) -> None:
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        scripted.peer.send(packet(PUBACK, b"\x7f\xff"))
        await lab.session.publish("topic", b"")


async def test_a_connection_that_ends_while_something_waits_to_be_sent(scripted: ScriptedBroker) -> None:
    """Stopping the broker and the daemon at one moment: the socket is gone before the loop looks at it."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        publishing = asyncio.create_task(lab.connection.publish(TOPIC, b"x", retain=False))
        await asyncio.sleep(0)  # it has asked the loop to write
        lab.connection.drop()
        with pytest.raises(BrokerError):
            await publishing
        await lab.stop()
    assert complaints == []
