"""Why a connection ended or did not come about: each cause has a code of its own, and a next step."""

import asyncio

import pytest
from lab.broker_session import TOPIC, publisher, session_lab
from lab.brokers import CONNECT, DISCONNECT, ScriptedBroker, packet, text, until
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.mqtt.login import BrokerError, Login, ending, refusal

LOGIN = Login("broker", 1883, "gw")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0x8B, "broker_restarts"),
        (0x95, "exceeds_broker_limit"),
        (0x9A, "retain_unavailable"),
        (0x8E, "taken_over"),
        (0x80, "connection_lost"),
    ],
)
def test_what_disconnect_says(value: int, code: str) -> None:
    assert ending(ReasonCode(PacketTypes.DISCONNECT, identifier=value), None, LOGIN).code == code


def test_what_connack_says_of_retained_messages() -> None:
    error = refusal(ReasonCode(PacketTypes.CONNACK, identifier=0x9A), LOGIN)
    assert (error.code, "retain_available" in error.hint) == ("retain_unavailable", True)


def test_out_of_memory_is_ours() -> None:
    error = ending(None, MemoryError(), LOGIN)
    assert (error.code, "max_message_mib" in error.hint) == ("out_of_memory", True)


async def test_a_websocket_port_is_named() -> None:
    async def http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    async with server:
        with pytest.raises(BrokerError) as raised:
            async with publisher(server.sockets[0].getsockname()[1]):
                pass
    assert raised.value.code == "websocket_port"
    assert "websocket" in raised.value.message


async def test_a_broker_that_restarts_twice_is_not_taken_for_another_client(scripted: ScriptedBroker) -> None:
    properties = b"\x1f" + text("bye")
    async with session_lab(scripted.port) as lab:
        await lab.subscribed(TOPIC)
        for number in range(2, 5):
            scripted.peer.send(packet(DISCONNECT, b"\x8b" + bytes([len(properties)]) + properties))
            await until(lambda: len(lab.connected) == number)  # noqa: B023 - awaited here
        scripted.peer.cut()
        await until(lambda: len(scripted.all(CONNECT)) == 5)
        assert len(lab.logged("no connection", code="broker_restarts")) == 3
        assert not [line for line in lab.log if "another client" in line.get("reason", "")]
