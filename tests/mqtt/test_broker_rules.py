"""The access rules in docs/fleet.md, at a real mosquitto: what each user can do, and what not."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from lab.brokers import Mosquitto, password_file
from lab.configuration import private_file
from lab.containers import gatewayctl
from pydantic import SecretStr

from gatewayd.mqtt.connection import Connection, connect
from gatewayd.mqtt.login import BrokerError, Login

PAGE = (Path(__file__).parent.parent.parent / "docs" / "fleet.md").read_text()
PASSWORD = "a-password"  # noqa: S105 - made up
PUMP, TANK = "/a/pump/u/4.3", "/a/tank/u/2.0/s"
STATUSES = ("gatewayd/barn-pi/status", "gatewayd/shed-pi/devices/pump-1")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    text: str = found
    return text


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    folder = tmp_path_factory.mktemp("mosquitto")
    rules = block("acl")
    users = re.findall(r"^user (\S+)", rules, re.MULTILINE)
    password_file(folder / "passwords", dict.fromkeys(users, PASSWORD))
    private_file(folder / "acl", rules.encode())
    lines = block("conf").replace("/etc/mosquitto", str(folder)).splitlines()
    with Mosquitto(folder / "m", *lines) as broker:
        asyncio.run(fill(broker))
        yield broker


async def fill(broker: Mosquitto) -> None:
    """Let everybody publish what is theirs."""
    for user, topics in {
        "publisher": (PUMP, TANK),
        "barn-pi": ("gatewayd/barn-pi/status",),
        "shed-pi": ("gatewayd/shed-pi/status", "gatewayd/shed-pi/devices/pump-1"),
    }.items():
        async with user_at(broker, user) as connection:
            for topic in topics:
                payload = b'{"state": "idle"}' if "devices" in topic else b"online"
                await connection.publish(topic, payload, retain=True)


@asynccontextmanager
async def user_at(broker: Mosquitto, user: str) -> AsyncIterator[Connection]:
    login = Login("127.0.0.1", broker.port, f"test-{user}", username=user, password=SecretStr(PASSWORD))
    connection = await connect(login)
    try:
        yield connection
    finally:
        await connection.close()


async def readable(broker: Mosquitto, user: str) -> set[str]:
    """Subscribe to everything; return what comes. Mosquitto sends it before it answers the next request."""
    async with user_at(broker, user) as connection:
        await connection.look_at(["#"])
        await connection.unsubscribe(["#"])
        found = set()
        try:
            while True:  # what has come is here already
                async with asyncio.timeout(1):
                    found.add((await connection.receive()).message.topic)
        except TimeoutError:
            return found


@pytest.mark.parametrize(
    ("user", "topics"),
    [
        ("barn-pi", {PUMP}),
        ("shed-pi", {PUMP, TANK}),
        ("publisher", set()),
        ("operator", {*STATUSES, "gatewayd/shed-pi/status"}),
    ],
)
async def test_who_reads_what(mosquitto: Mosquitto, user: str, topics: set[str]) -> None:
    assert await readable(mosquitto, user) == topics


@pytest.mark.attack("a gateway that writes another's status, or firmware", "publish_refused")
@pytest.mark.parametrize(
    ("user", "topic", "may"),
    [
        ("barn-pi", "gatewayd/barn-pi/status", True),
        ("barn-pi", "gatewayd/barn-pi/devices/pump-1", True),
        ("barn-pi", "gatewayd/shed-pi/status", False),
        ("barn-pi", "gatewayd/shed-pi/devices/pump-1", False),
        ("barn-pi", PUMP, False),
        ("publisher", "/a/fan/u/1.0", True),
        ("publisher", "gatewayd/barn-pi/status", False),
        ("operator", PUMP, False),
        ("operator", "gatewayd/barn-pi/status", False),
    ],
)
async def test_who_writes_what(mosquitto: Mosquitto, user: str, topic: str, may: bool) -> None:
    async with user_at(mosquitto, user) as connection:
        if may:
            await connection.publish(topic, b"", retain=False)
            return
        with pytest.raises(BrokerError) as caught:
            await connection.publish(topic, b"", retain=False)
    assert caught.value.code == "publish_refused"


def test_the_operator_sees_the_fleet_and_a_gateway_does_not(mosquitto: Mosquitto, tmp_path: Path) -> None:
    private_file(tmp_path / "password", PASSWORD.encode())
    for user, exit_code in (("operator", 0), ("barn-pi", 1)):
        mqtt = {"host": "127.0.0.1", "port": mosquitto.port, "username": user, "password_file": "password"}
        (tmp_path / "config.yaml").write_text(json.dumps({"mqtt": mqtt, "devices": []}))
        ran = gatewayctl("fleet", "status", "--config", str(tmp_path / "config.yaml"))
        assert ran.exit_code == exit_code, ran
    assert "nothing is retained on gatewayd/+/status" in ran.err
