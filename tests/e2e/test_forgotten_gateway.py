"""`gatewayctl fleet forget`: nothing of a gateway that is gone or has another id now stays at the broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.control_schema import check_printed
from lab.desk import Desk, desk
from lab.farm import image_of
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

ROOT = "gatewayd/barn"
# In place of seconds, until the marker is there.
QUICK = "import gatewayd.mqtt.retained_check as check; check.SETTLE_S = 0.4; check.ASK_AGAIN_S = (0.3, 0.3)"
RELEASE = "/a/pump/u/4.3"
STATUSES = [f"{ROOT}/devices/pump-1", f"{ROOT}/gateway", f"{ROOT}/marker", f"{ROOT}/status"]
DISCOVERED = [f"homeassistant/device/barn/{one}/config" for one in ("gateway", "pump-1")]


@pytest.fixture(name="barn")
def _barn(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as whole:
        whole.gateway.preset = QUICK
        whole.gateway.config["mqtt"]["home_assistant"] = {}
        whole.configure(whole.device("pump-1").config())
        yield whole


@pytest.fixture(name="retained")
def _retained(barn: Desk) -> Iterator[dict[str, bytes]]:
    """What the broker retains, as it changes."""
    found: dict[str, bytes] = {}

    def hear(_client: object, _data: object, message: paho.MQTTMessage) -> None:
        found[message.topic] = bytes(message.payload)
        if not message.payload:
            del found[message.topic]

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = hear
    client.connect("127.0.0.1", barn.broker.port)
    client.subscribe("#", qos=1)
    client.loop_start()
    yield found
    client.disconnect()
    client.loop_stop()


def publish(barn: Desk, topic: str, payload: str) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", barn.broker.port)
    client.loop_start()
    client.publish(topic, payload, qos=1, retain=True).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def left_by_barn(barn: Desk, retained: dict[str, bytes]) -> None:
    """Let the gateway run, and stop it once everything is there."""
    barn.start()
    barn.publish("pump", "4.3.2", image_of(17, 2_000))
    barn.until(lambda: retained.keys() >= {*STATUSES, *DISCOVERED, RELEASE}, "all of it")
    barn.stop()
    barn.until(lambda: retained[f"{ROOT}/status"] == b"offline", "it is gone")


def forget(*words: str) -> tuple[str, ...]:
    return ("fleet", "forget", "barn", "--config", "config.yaml", *words)


def test_what_the_old_id_left_is_emptied_and_nothing_else(
    barn: Desk, retained: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(barn.folder)
    publish(barn, "gatewayd/barn-2/status", "online")
    publish(barn, "homeassistant/device/barn-2/gateway/config", "{}")
    left_by_barn(barn, retained)
    barn.gateway.config["gateway"]["id"] = "yard"
    barn.start()
    barn.until(lambda: retained.get("gatewayd/yard/status") == b"online", "it has its new id")
    barn.until(lambda: "homeassistant/device/yard/pump-1/config" in retained, "and so has its device")
    ran = check_printed("fleet forget", barn.good(*forget("--json")))
    assert ran == {"gateway": "barn", "topics": STATUSES + DISCOVERED}
    barn.until(lambda: not retained.keys() & {*STATUSES, *DISCOVERED}, "all is gone")
    assert {
        RELEASE,
        "gatewayd/barn-2/status",
        "homeassistant/device/barn-2/gateway/config",
    } <= retained.keys()
    assert {"gatewayd/yard/devices/pump-1", "homeassistant/device/yard/pump-1/config"} <= retained.keys()
    assert barn.good(*forget()) == "barn: nothing was retained\n"
    assert barn.run("fleet", "forget", "a/b", "--config", "config.yaml").exit_code == 2


def test_a_gateway_that_is_online_is_forgotten_only_with_force(
    barn: Desk, retained: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(barn.folder)
    left_by_barn(barn, retained)
    publish(barn, f"{ROOT}/status", "online")  # the broker ended before it could say otherwise
    barn.until(lambda: retained[f"{ROOT}/status"] == b"online", "it is said to be there")
    before = dict(retained)
    assert barn.refused("fleet forget", *forget())["code"] == "gateway_online"
    assert retained == before
    assert barn.good(*forget("--force")).endswith("barn: 6 messages emptied\n")
    barn.until(lambda: retained.keys() == {RELEASE}, "all is gone")


def test_statuses_on_a_topic_without_the_id_are_those_of_the_gateway_that_is_left(
    barn: Desk, retained: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(barn.folder)
    left_by_barn(barn, retained)
    barn.gateway.config["gateway"]["id"] = "yard"
    barn.gateway.config["mqtt"]["status_topic"] = ROOT
    barn.write()
    assert check_printed("fleet forget", barn.good(*forget("--json")))["topics"] == DISCOVERED
    barn.until(lambda: not retained.keys() & set(DISCOVERED), "what was discovered is gone")
    assert set(STATUSES) <= retained.keys()
