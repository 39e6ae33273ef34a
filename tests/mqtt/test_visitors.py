"""What commands do at the broker beside the gateway: they leave it alone, and know the broker's limits."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from lab.broker_session import OTHER, TOPIC, publisher, retained, session_lab
from lab.brokers import PUBLISH, Mosquitto, ScriptedBroker, until
from lab.publishing import ADVANCED, SIGNED_ENCRYPTED, VECTORS, publish, refusal, run, write_config
from pydantic import SecretStr

from gatewayd.config import Mqtt
from gatewayd.mqtt import withdrawal
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.visitor import Account, visit, visitor


def with_users(folder: Path) -> Mosquitto:
    """A broker that takes users' names for client ids; `gw` and `person` may log in, password `secret`."""
    folder.mkdir()
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    for name in ("gw", "person"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, name, "secret"], check=True)
    return Mosquitto(
        folder / "m", "allow_anonymous false", f"password_file {passwords}", "use_username_as_clientid true"
    )


async def test_a_visitor_does_not_take_the_gateways_session(tmp_path: Path) -> None:
    with with_users(tmp_path / "broker") as broker:
        login = {"username": "gw", "password": "secret"}
        async with session_lab(broker.port, client_id="barn", **login) as lab:
            await lab.subscribed(TOPIC)
            settings = Mqtt(
                host="127.0.0.1",
                port=broker.port,
                username="gw",
                password=SecretStr("secret"),
                client_id="barn",
            )
            with pytest.raises(BrokerError, match="use_username_as_clientid") as raised:
                await visit(visitor(settings))
            assert raised.value.code == "shared_client_id"
            await until(lambda: len(lab.logged("connected to", session="kept")) == 1, "the session is kept")
            # The hint is good: with another user there is no collision.
            person = await visit(visitor(settings, account=Account("person", SecretStr("secret"))))
            await person.publish(TOPIC, b"4.3.2", retain=True)
            await person.close()
            await until(lambda: lab.got)
            assert len(lab.connected) == 2, "thrown out by nobody else"


async def test_a_visitor_leaves_no_session_behind(mosquitto: Mosquitto) -> None:
    login = visitor(Mqtt(host="127.0.0.1", port=mosquitto.port, client_id="barn"))
    for _ in range(2):  # with the same client id, which nobody else would do
        connection = await visit(login)
        assert not connection.session_present
        await connection.close()


@pytest.mark.parametrize("limit", ["max_packet_size 1000", "message_size_limit 1000"])
def test_the_brokers_limit_is_named(tmp_path: Path, limit: str) -> None:
    with Mosquitto(tmp_path / "m", limit) as mosquitto:
        image = tmp_path / "image.bin"
        image.write_bytes(b"\xe9" + bytes(3000))
        config = write_config(tmp_path, mosquitto.port, "payload: standard")
        error = refusal(publish(config, image))
    assert error.code == "exceeds_broker_limit"
    assert "3002 bytes on /a/pump/u/4.3 are too large for the broker" in error.message
    assert ("1000 bytes at most" in error.message) == limit.startswith("max_packet_size")
    assert limit.partition(" ")[0] in error.hint


async def test_a_broker_that_closes_on_a_size_is_told_of(
    tmp_path: Path,
) -> None:
    answers = {PUBLISH: lambda peer, _: peer.cut()}
    async with ScriptedBroker(answers) as scripted:
        config = write_config(tmp_path, scripted.port, "payload: standard")
        (tmp_path / "image.bin").write_bytes(b"\xe9" + bytes(3000))
        error = refusal(await asyncio.to_thread(publish, config, tmp_path / "image.bin"))
    assert error.code == "connection_lost"
    assert "when 3002 bytes were sent to /a/pump/u/4.3" in error.message
    assert "size limit" in error.hint


def test_what_every_device_would_refuse_needs_force(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = write_config(tmp_path, mosquitto.port, ADVANCED)
    refused = publish(config, VECTORS / "plain.ota")
    assert refusal(refused).code == "all_would_refuse"
    assert "pump-1 will refuse it (unsigned)" in refused.stderr
    assert publish(config, "--force", VECTORS / "plain.ota").exit_code == 0
    asyncio.run(retained(mosquitto.port, TOPIC, b"\x02" + (VECTORS / "plain.ota").read_bytes()))


@pytest.mark.parametrize(
    ("app", "version", "options", "said"),
    [
        ("pump", "4.4.0", [], "pump-1 runs 4.3.1 and follows 4.3; 4.4 is another line"),
        ("Pump", "4.3.2", [], "pump-1 has app_id 'pump', and this is for 'Pump'"),
        ("pump", "4.3.2", ["--channel", "s"], "pump-1 follows the topic without a channel of 4.3"),
        ("tank", "4.3.2", [], None),
    ],
)
def test_a_near_miss_is_told(
    tmp_path: Path, mosquitto: Mosquitto, app: str, version: str, options: list[str], said: str | None
) -> None:
    config = write_config(tmp_path, mosquitto.port, ADVANCED)
    result = publish(config, *options, SIGNED_ENCRYPTED, app=app, version=version)
    assert result.exit_code == 0
    assert "no device in" in result.stderr
    assert ("near miss" in result.stderr) == (said is not None)
    assert (said or "") in result.stderr


# -- withdraw


def withdraw(config: Path, *arguments: str) -> dict[str, object]:
    result = run("withdraw", "--config", str(config), "--json", "--app", "pump", "--line", "4.3", *arguments)
    assert result.exit_code == 0, result
    document: dict[str, object] = json.loads(result.stdout)
    return document


async def test_a_withdrawal_empties_the_topic_and_says_who_held_it(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    config = write_config(tmp_path, mosquitto.port, ADVANCED)
    async with publisher(mosquitto.port) as other, session_lab(mosquitto.port) as gateway:
        await gateway.subscribed(TOPIC)
        await other.publish(TOPIC, b"\x02image", retain=True)
        await other.publish(OTHER, b"\x02image", retain=True)
        await other.publish("gatewayd/barn/status", b"online", retain=True)
        for name, latest in (("pump-1", "4.3.2"), ("pump-2", "4.4.0")):
            report = {"state": "queued", "app_id": "pump", "installed_version": "4.3.1"}
            topic = f"gatewayd/barn/devices/{name}"
            await other.publish(topic, json.dumps({**report, "latest_version": latest}).encode(), retain=True)
        await until(lambda: len(gateway.got) == 1)
        document = await asyncio.to_thread(withdraw, config)
        await until(lambda: len(gateway.got) == 2)
        assert (gateway.got[1].payload, gateway.got[1].qos) == (b"", 1)
    assert document == {
        "topic": TOPIC,
        "was_retained": True,
        "size": 6,
        "holders": [
            {
                "gateway": "barn",
                "device": "pump-1",
                "state": "queued",
                "installed_version": "4.3.1",
                "latest_version": "4.3.2",
            }
        ],
    }
    again = await asyncio.to_thread(withdraw, config)
    assert (again["was_retained"], again["size"]) == (False, None)
    await retained(mosquitto.port, OTHER, b"\x02image")


def test_a_withdrawal_that_cannot_be_seen_is_still_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawal, "ECHO_S", 0.1)
    rules = tmp_path / "acl"
    rules.write_text("topic write #\n")
    with Mosquitto(tmp_path / "m", f"acl_file {rules}") as mosquitto:
        document = withdraw(write_config(tmp_path, mosquitto.port, ADVANCED), "--channel", "u")
    assert (document["topic"], document["was_retained"]) == ("/a/pump/u/4.3/u", None)


@pytest.mark.parametrize("line", ["4", "4.3.2", "4.03", "4.x", ""])
def test_a_line_is_major_and_minor(tmp_path: Path, line: str) -> None:
    config = write_config(tmp_path, 1, ADVANCED)
    assert run("withdraw", "--config", str(config), "--app", "pump", "--line", line).exit_code == 2
