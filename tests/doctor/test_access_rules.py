"""What the doctor finds out about the marker and the last will, and what it leaves as it was."""

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest
from aiomqtt import ProtocolVersion
from lab.broker_session import publisher, retained
from lab.brokers import CONNACK, CONNECT, PUBACK, PUBLISH, Mosquitto, Packet, Peer, ScriptedBroker, packet
from lab.configuration import Lab
from lab.doctor import BARN, guarded, levels, look, settings_at

from gatewayd.config import Settings
from gatewayd.doctor import access_rules
from gatewayd.doctor.access_rules import try_marker
from gatewayd.doctor.finding import Level
from gatewayd.mqtt.connection import connect
from gatewayd.mqtt.visitor import visitor

MARKER, STATUS = "gatewayd/barn-pi/marker", "gatewayd/barn-pi/status"
ALL_BUT = ("topic read /a/#", "topic write gatewayd/barn-pi/devices/+", f"topic write {STATUS}")
WILL_FLAG = 0x04
VERSIONS = pytest.mark.parametrize("version", [ProtocolVersion.V5, ProtocolVersion.V311], ids=["5", "3.1.1"])


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_rules, "LIMIT_S", 0.5)


async def test_a_marker_that_may_not_be_written(tmp_path: Path) -> None:
    async with guarded(tmp_path, *ALL_BUT, f"topic read {MARKER}") as mosquitto:
        findings = await look(settings_at(tmp_path, mosquitto.port, **BARN))
    found = findings.pop("marker")
    assert set(levels(findings).values()) == {"ok"}, "nothing else would tell"
    assert (found.code, found.level) == ("publish_refused", Level.WARNING)
    assert MARKER in found.text
    assert "withdrawn while gatewayd is off" in found.text
    assert f"write and read {MARKER}" in (found.hint or "")


async def test_a_marker_that_may_not_be_read(tmp_path: Path) -> None:
    async with guarded(tmp_path, *ALL_BUT, f"topic write {MARKER}") as mosquitto:
        findings = await look(settings_at(tmp_path, mosquitto.port, **BARN))
    found = findings.pop("marker")
    assert set(levels(findings).values()) == {"ok"}
    assert (found.code, found.level) == ("marker_withheld", Level.WARNING)
    assert "forbid reading it" in found.text


@pytest.mark.parametrize("may", ["write", "read"])
async def test_a_broker_of_mqtt_3_throws_it_away_without_a_word(tmp_path: Path, may: str) -> None:
    async with guarded(tmp_path, *ALL_BUT, f"topic {may} {MARKER}") as mosquitto:
        settings = settings_at(tmp_path, mosquitto.port, **BARN)
        found = await try_marker(settings, ProtocolVersion.V311)
    assert (found.code, found.level) == ("marker_withheld", Level.WARNING)
    assert "forbid writing or reading it" in found.text


async def test_a_broker_that_closes_over_it(tmp_path: Path) -> None:
    def close(peer: Peer, got: Packet) -> None:
        if got.topic == MARKER:
            peer.cut()
        else:
            peer.send(packet(PUBACK, got.packet_id.to_bytes(2, "big")))

    async with ScriptedBroker({PUBLISH: close}) as scripted:
        findings = await look(settings_at(tmp_path, scripted.port))
    assert levels(findings) | {"marker": ""} == dict.fromkeys(findings, "ok") | {"marker": ""}
    assert (findings["marker"].code, MARKER in findings["marker"].text) == ("connection_lost", True)


@VERSIONS
async def test_a_marker_stays_what_it_is(tmp_path: Path, version: ProtocolVersion) -> None:
    marker = b'{"store": "x", "sequence": 5}'
    async with guarded(tmp_path, *ALL_BUT, f"topic readwrite {MARKER}", f"topic read {MARKER}") as mosquitto:
        settings = settings_at(tmp_path, mosquitto.port, **BARN)
        await put(settings, MARKER, marker)
        found = await try_marker(settings, version)
        assert await still(settings, MARKER) == marker
    assert (found.level, found.text) == (Level.OK, f"{MARKER} may be written and read")


async def put(settings: Settings, topic: str, payload: bytes) -> None:
    connection = await connect(visitor(settings.mqtt))
    await connection.publish(topic, payload, retain=True)
    await connection.close()


async def still(settings: Settings, topic: str) -> bytes:
    connection = await connect(visitor(settings.mqtt))
    await connection.subscribe([topic], replay_retained=True)
    payload = (await connection.receive()).message.payload
    await connection.close()
    return payload


def without_will(refuse: Callable[[Peer, bool], None]) -> Callable[[Peer, Packet], None]:
    """Answer CONNECT as a broker does that forbids the last will alone."""

    def answer(peer: Peer, got: Packet) -> None:
        is_v5 = got.body[6] == ProtocolVersion.V5
        if got.body[7] & WILL_FLAG:
            refuse(peer, is_v5)
        else:
            peer.send(packet(CONNACK, b"\0\0\0" if is_v5 else b"\0\0"))

    return answer


REFUSALS: dict[str, Callable[[Peer, bool], None]] = {
    "by its answer": lambda peer, is_v5: peer.send(packet(CONNACK, b"\0\x87\0" if is_v5 else b"\0\5")),
    "by closing": lambda peer, _: peer.cut(),
}


@pytest.mark.parametrize("refuse", REFUSALS.values(), ids=REFUSALS)
async def test_a_last_will_that_is_refused(tmp_path: Path, refuse: Callable[[Peer, bool], None]) -> None:
    async with ScriptedBroker({CONNECT: without_will(refuse)}) as scripted:
        findings = await look(settings_at(tmp_path, scripted.port))
        with_will = [got for got in scripted.all(CONNECT) if got.body[7] & WILL_FLAG]
    found = findings["last will"]
    assert levels(findings)["login"] == "ok"
    assert (found.code, found.level) == ("publish_refused", Level.FAILURE)
    assert STATUS in found.text
    assert STATUS in (found.hint or "")
    assert all(STATUS.encode() + b"\0\x07offline" in got.body for got in with_will), "as gatewayd has it"
    assert not any(b"gatewayd-barn-pi" in got.body for got in scripted.all(CONNECT)), (
        "under another client id"
    )


async def test_a_last_will_is_not_risked_while_gatewayd_may_be_connected(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["gateway"]["state_dir"] = "state"
    (tmp_path / "state").mkdir()
    with Mosquitto(tmp_path / "m") as mosquitto, (tmp_path / "state" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lab.tree["mqtt"] = {"host": "127.0.0.1", "port": mosquitto.port}
        findings = await look(lab.settings())
        assert "Will message specified" not in mosquitto.log()
    assert "does not say whether it is connected" in findings["last will"].text


async def test_a_broker_that_retains_nothing(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "m", "retain_available false") as mosquitto:
        findings = await look(settings_at(tmp_path, mosquitto.port))
    assert findings["login"].level is Level.OK, "it is the will that is retained"
    assert findings["last will"].code == "retain_unavailable"


async def test_the_last_will_is_never_published(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "m") as mosquitto:
        async with publisher(mosquitto.port) as other:
            await other.publish(STATUS, b"online", retain=True)
            findings = await look(settings_at(tmp_path, mosquitto.port))
            await retained(mosquitto.port, STATUS, b"online")
        log = mosquitto.log()
    assert findings["last will"].text.startswith(f"the broker accepts it, retained on {STATUS}")
    assert "Will message specified" in log
