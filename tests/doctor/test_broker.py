"""The doctor at real brokers: a login of its own, and nothing left behind."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lab.broker_session import publisher
from lab.brokers import (
    CONNECT,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    Mosquitto,
    Packet,
    Peer,
    ScriptedBroker,
    amqtt_broker,
    free_port,
    packet,
    text,
)
from lab.certificates import DAY, OURS, tls_broker
from lab.configuration import Lab, private_file
from lab.doctor import BARN, guarded, levels, look, settings_at

from gatewayd.doctor import access_rules
from gatewayd.doctor.access_rules import harmless_topic, judge_subscriptions
from gatewayd.doctor.broker import judge_privacy, judge_tls
from gatewayd.doctor.finding import Level
from gatewayd.mqtt import login
from gatewayd.tls import Facts

SUBJECTS = ("broker", "TLS", "login", "last will", "statuses", "subscriptions", "marker")
USUAL = ("topic read /a/+/u/#", "topic write gatewayd/barn-pi/#", "topic read gatewayd/barn-pi/marker")


async def test_all_is_well_and_the_gateways_session_and_messages_are_left_alone(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "m") as mosquitto:
        settings = settings_at(tmp_path, mosquitto.port)
        async with publisher(mosquitto.port) as other:
            await other.publish("/a/pump/u/4.3", b"\2firmware", retain=True)
            await other.subscribe(["gatewayd/#"], replay_retained=True)
            findings = await look(settings)
            heard = (await other.receive()).message
        log = mosquitto.log()
    assert levels(findings) == dict.fromkeys(SUBJECTS, "ok")
    assert "MQTT 5" in findings["login"].text
    assert "/a/pump/u/4.3" in findings["subscriptions"].text
    assert (heard.topic, heard.payload, heard.retain) == ("gatewayd/barn-pi/devices/doctor", b"", False)
    assert "as gatewayctl-" in log
    assert "as gatewayd-barn-pi" not in log, "that would throw the gateway out"
    came = re.findall(r"Sending PUBLISH to gatewayctl-\S+ \(d., q., r(.), m\d+, '(\S+)'", log)
    assert came == [("0", "gatewayd/barn-pi/marker")], "nothing retained was asked for"


async def test_a_user_that_may_not_publish_statuses(tmp_path: Path) -> None:
    async with guarded(tmp_path, "topic read /a/pump/#", "topic readwrite gatewayd/other/#") as mosquitto:
        findings = await look(settings_at(tmp_path, mosquitto.port, **BARN))
    assert levels(findings) == {
        "broker": "ok",
        "TLS": "ok",
        "login": "ok",
        "last will": "ok",
        "statuses": "publish_refused",
        "subscriptions": "ok",
        "marker": "publish_refused",
    }
    assert "user barn" in findings["login"].text
    assert "gatewayd/barn-pi/devices/doctor" in findings["statuses"].text
    assert findings["statuses"].hint is not None


async def test_a_user_with_the_usual_rules(tmp_path: Path) -> None:
    async with guarded(tmp_path, *USUAL) as mosquitto:
        findings = await look(settings_at(tmp_path, mosquitto.port, **BARN))
    assert set(levels(findings).values()) == {"ok"}


async def test_mosquitto_grants_what_it_then_holds_back(tmp_path: Path) -> None:
    """Why the doctor does not promise that a granted topic is delivered."""
    async with guarded(tmp_path, "topic write gatewayd/barn-pi/#") as mosquitto:
        findings = await look(settings_at(tmp_path, mosquitto.port, **BARN))
    assert levels(findings)["subscriptions"] == "ok"
    assert "some brokers grant topics whose messages they withhold" in findings["subscriptions"].text


async def test_a_wrong_password(tmp_path: Path) -> None:
    async with guarded(tmp_path) as mosquitto:
        Lab(tmp_path)
        wrong = private_file(tmp_path / "wrong", b"not it\n")
        user = {"username": "barn", "password_file": str(wrong)}
        findings = await look(settings_at(tmp_path, mosquitto.port, **user))
    assert list(findings) == ["broker", "login"]
    assert findings["login"].level is Level.FAILURE
    assert findings["login"].code == "bad_credentials"
    assert "not it" not in str(findings)


async def test_a_broker_that_is_not_there(tmp_path: Path) -> None:
    port = free_port()
    findings = await look(settings_at(tmp_path, port))
    assert list(findings) == ["broker"]
    assert findings["broker"].code == "broker_unreachable"
    assert findings["broker"].text.startswith(f"127.0.0.1:{port} cannot be reached: ")


async def test_a_name_that_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError(-2, "Name or service not known")

    settings = settings_at(tmp_path, 1883, host="broker.example.com")
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    findings = await look(settings)
    assert list(findings) == ["broker"]
    assert findings["broker"].text == "cannot resolve broker.example.com: Name or service not known"


async def test_a_broker_of_mqtt_3_is_asked_what_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "CONNECT_TIMEOUT_S", 4.0)  # amqtt never answers MQTT 5
    async with amqtt_broker() as port:
        findings = await look(settings_at(tmp_path, port))
    assert set(levels(findings).values()) == {"ok"}
    assert "MQTT 3.1.1" in findings["login"].text
    assert findings["statuses"].text == "sent one; MQTT 3.1.1 does not report whether it is allowed"


def refuse(peer: Peer, got: Packet) -> None:
    peer.send(packet(SUBACK, got.body[:2] + b"\0\x87"))


async def test_a_subscription_that_is_refused(tmp_path: Path) -> None:
    async with ScriptedBroker({SUBSCRIBE: refuse}) as scripted:
        findings = await look(settings_at(tmp_path, scripted.port))
        asked, for_marker = scripted.all(SUBSCRIBE)
    assert findings["subscriptions"].code == "subscription_refused"
    assert findings["subscriptions"].text == "refused: /a/pump/u/4.3: Not authorized"
    # Retain handling 2: no retained message, please.
    assert asked.body[3:] == text("/a/pump/u/4.3") + bytes([2 << 4 | 0x08 | 0x01])
    assert for_marker.body[3:] == text("gatewayd/barn-pi/marker") + bytes([2 << 4 | 0x08 | 0x01])
    assert findings["marker"].code == "subscription_refused"


async def test_a_broker_that_cuts_the_connection_instead_of_answering(tmp_path: Path) -> None:
    async with ScriptedBroker({SUBSCRIBE: lambda peer, _: peer.cut()}) as scripted:
        findings = await look(settings_at(tmp_path, scripted.port))
    assert findings["subscriptions"].code == "connection_lost"
    assert "access rules" in (findings["subscriptions"].hint or "")


async def test_what_is_no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "CONNECT_TIMEOUT_S", 0.2)
    async with ScriptedBroker({CONNECT: lambda *_: None}) as scripted:
        findings = await look(settings_at(tmp_path, scripted.port))
    assert levels(findings) == {"broker": "ok", "login": "no_connack"}


async def test_a_broker_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_rules, "LIMIT_S", 1.0)
    async with ScriptedBroker({SUBSCRIBE: lambda *_: None, PUBLISH: lambda *_: None}) as scripted:
        findings = await look(settings_at(tmp_path, scripted.port))
    assert levels(findings)["statuses"] == levels(findings)["subscriptions"] == "broker_silent"


def test_the_message_is_for_a_device_that_does_not_exist(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["devices"] = [lab.device("doctor"), lab.device("doctor-")]
    assert harmless_topic(lab.settings()) == "gatewayd/barn-pi/devices/doctor--"


def test_without_tls_only_this_machine_is_private(tmp_path: Path) -> None:
    mqtt = settings_at(tmp_path, 1883).mqtt
    for addresses, level in (
        (["127.0.0.1", "::1"], Level.OK),
        (["127.0.0.1", "192.0.2.1"], Level.WARNING),
        (["2001:db8::1"], Level.WARNING),
    ):
        assert judge_privacy(mqtt, addresses).level is level
    user = {"username": "barn", "password_file": "password"}
    with_password = settings_at(tmp_path, 1883, **user).mqtt
    assert "password" in judge_privacy(with_password, ["192.0.2.1"]).text
    assert "password" not in judge_privacy(mqtt, ["192.0.2.1"]).text


def test_of_many_topics_some_are_named() -> None:
    topics = [f"/a/{number}" for number in range(9)]
    assert "/a/2 and 6 more" in judge_subscriptions(topics, {}).text
    refused = judge_subscriptions(topics, dict.fromkeys(topics, "no"))
    assert refused.text == "refused: /a/0: no; /a/1: no; /a/2: no; and 6 more"
    assert judge_subscriptions([], {}).level is Level.OK


async def test_by_tls_the_certificate_is_told(tmp_path: Path) -> None:
    identity = OURS.vouch("localhost", lasts=400 * DAY)
    with tls_broker(tmp_path / "b", identity) as broker:
        findings = await look(
            settings_at(tmp_path, broker.port, host="localhost", tls={"pins": [identity.pin]})
        )
        assert set(levels(findings).values()) == {"ok"}
        assert "TLSv1.3 with CN=localhost: its key is pinned" in findings["TLS"].text
        other = OURS.vouch().pin
        findings = await look(settings_at(tmp_path, broker.port, host="localhost", tls={"pins": [other]}))
        assert levels(findings)["login"] == "wrong_pin"


@pytest.mark.parametrize(
    ("days", "code"), [(-2, "clock_doubtful"), (22, None), (20, "expires_soon"), (0.5, "expires_soon")]
)
def test_dates_are_compared_with_the_clock(tmp_path: Path, days: float, code: str | None) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    facts = Facts("TLSv1.3", "sha256:00", "CN=b", "CN=ca", now - 90 * DAY, now + days * DAY)
    assert judge_tls(settings_at(tmp_path, 1883).mqtt, facts, now).code == code
