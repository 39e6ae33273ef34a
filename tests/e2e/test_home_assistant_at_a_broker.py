"""What Home Assistant finds at a real broker, and what its button does, with the daemon as a process."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lab.brokers import Mosquitto, password_file
from lab.configuration import private_file
from lab.control_schema import check_printed
from lab.desk import Desk, desk
from lab.farm import image_of
from lab.tree import ROOT
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

pytestmark = pytest.mark.daemon

PREFIX = "homeassistant/device/barn"
IMAGE = image_of(17, 20_000)
PASSWORD = "a-password"  # noqa: S105 - made up
PAGE = ROOT / "docs" / "home-assistant.md"
# In place of seconds. The last is for mosquitto 2.0.11: with queue_qos0_messages, after a message that it
# kept, it sends nothing with QoS 1 to a client with Receive Maximum 1, so the release does not come again.
QUICK = "import gatewayd.mqtt.retained_check as check; check.SETTLE_S = 0.4; check.ASK_AGAIN_S = (0.3, 0.3)"


class House:
    """What Home Assistant sees of the broker, and its buttons."""

    def __init__(self, barn: Desk) -> None:
        self._barn = barn
        self.discovered: dict[str, dict[str, Any]] = {}
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = self._hear

    def _hear(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        name = message.topic.removeprefix(f"{PREFIX}/").removesuffix("/config")
        if message.payload:
            self.discovered[name] = json.loads(message.payload)
        else:
            self.discovered.pop(name, None)

    def until_there(self, *names: str) -> None:
        self._barn.until(lambda: self.discovered.keys() == set(names), f"{names}: {self.discovered.keys()}")

    def update(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.discovered[name]["cmps"]["update"]
        return found

    def until_offered(self, name: str, version: str) -> None:
        self._barn.until(lambda: self.update(name).get("payload_install") == version, version)

    def send(self, payload: str | bytes, device: str = "pump-1", *, retain: bool = False) -> None:
        topic = f"gatewayd/barn/devices/{device}/install"
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(60)

    def press(self, name: str) -> None:
        """Do what the button does."""
        update = self.update(name)
        self.client.publish(
            update["command_topic"], update["payload_install"], qos=update["qos"], retain=update["retain"]
        ).wait_for_publish(60)


@contextmanager
def house(barn: Desk, user: str = "") -> Iterator[House]:
    one = House(barn)
    if user:
        one.client.username_pw_set(user, PASSWORD)
    one.client.connect("127.0.0.1", barn.broker.port)
    one.client.subscribe("homeassistant/#", qos=1)
    one.client.loop_start()
    try:
        yield one
    finally:
        one.client.disconnect()
        one.client.loop_stop()


@pytest.fixture(name="barn")
def _barn(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as whole:
        whole.gateway.preset = QUICK
        whole.gateway.config["mqtt"]["home_assistant"] = {}
        yield whole


@pytest.fixture(name="guarded")
def _guarded(tmp_path: Path) -> Iterator[Desk]:
    """A broker with the rules in docs/home-assistant.md and those for firmware and statuses that it needs."""
    (rules,) = re.findall(r"^```acl\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    others = "user barn\ntopic readwrite /a/#\ntopic readwrite gatewayd/barn/marker\n" + "".join(
        f"topic write gatewayd/barn/{one}\n" for one in ("status", "gateway", "devices/+")
    )
    users = ("barn", "homeassistant", "guest")
    passwords = password_file(tmp_path / "passwords", dict.fromkeys(users, PASSWORD))
    acl = private_file(tmp_path / "acl", f"{rules}\n{others}\nuser guest\ntopic read #\n".encode())
    options = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}")
    whole = Desk(tmp_path, Mosquitto(tmp_path / "mosquitto", *options).start())
    whole.gateway.preset = QUICK
    private_file(tmp_path / "mqtt-password", PASSWORD.encode())
    whole.gateway.config["mqtt"] |= {
        "home_assistant": {},
        "username": "barn",
        "password_file": "mqtt-password",
    }
    try:
        yield whole
    finally:
        whole.end()


def ignored(barn: Desk) -> list[str]:
    return [line["code"] for line in barn.gateway.log_events("install ignored")]


def more_ignored(barn: Desk, before: int) -> bool:
    return len(ignored(barn)) > before


def ended_by_a_press(barn: Desk, home: House) -> bool:
    """A press that comes while the gateway connects is lost, so press again."""
    home.send("4.3.2")
    ended = [topic for line in barn.gateway.log_events("unsubscribed") for topic in line["topics"]]
    return "gatewayd/barn/devices/+/install" in ended


@pytest.mark.attack(
    "a command to install that is retained, empty, too long, for no device of ours, or for another version",
    "retained_command",
    "bad_command",
    "no_such_device",
    "not_on_offer",
)
def test_the_button_installs_what_is_on_offer_and_nothing_else(barn: Desk) -> None:
    barn.configure(barn.device("pump-1").config(install="manual"))
    barn.start()
    with house(barn) as home:
        home.until_there("gateway", "pump-1")
        barn.publish("pump", "4.3.2", IMAGE)
        barn.until_state("pump-1", "offered")
        home.until_offered("pump-1", "4.3.2")
        for payload, device, code in (
            ("4.3.3", "pump-1", "not_on_offer"),
            ("", "pump-1", "bad_command"),
            ("4" * 65, "pump-1", "bad_command"),
            ("4.3.2", "pump-9", "no_such_device"),
        ):
            before = len(ignored(barn))
            home.send(payload, device)
            barn.until(partial(more_ignored, barn, before), code)
            assert ignored(barn)[-1] == code
        home.send("4.3.2", retain=True)
        barn.until(lambda: ignored(barn)[-1] == "retained_command")
        assert barn.views()["pump-1"].state == "offered"
        home.send("", retain=True)
        home.press("pump-1")
        barn.until_state("pump-1", "succeeded", installed_version="4.3.2")
        assert barn.gateway.log_events("approved")[0]["by"] == "mqtt"
        barn.until(lambda: home.discovered["pump-1"]["dev"].get("sw") == "4.3.2")


def test_what_was_removed_is_gone_and_switching_it_off_removes_everything(barn: Desk) -> None:
    one, other, last = (barn.device(f"pump-{number}").config() for number in "123")
    last["name"] = "pump.3"
    barn.configure(one, other, last)
    barn.start()
    with house(barn) as home:
        home.until_there("gateway", "pump-1", "pump-2", "pump_3")
        barn.stop()
        barn.configure(one, last)
        barn.start()
        home.until_there("gateway", "pump-1", "pump_3")
        barn.configure(one)
        barn.good("reload")
        home.until_there("gateway", "pump-1")
        barn.gateway.config["mqtt"]["home_assistant"] = {"prefix": "ha"}
        barn.write()
        barn.good("reload")
        home.until_there()
        barn.gateway.config["mqtt"]["home_assistant"] = {}
        barn.write()
        barn.good("reload")
        home.until_there("gateway", "pump-1")
        del barn.gateway.config["mqtt"]["home_assistant"]
        barn.write()
        barn.good("reload")
        home.until_there()
        # The broker's session still has the subscription: it is ended, and nothing is installed.
        barn.until(partial(ended_by_a_press, barn, home), "the subscription ends")
        assert ignored(barn) == []


@pytest.mark.attack("a button pressed by one who may not")
def test_with_the_access_rules_only_home_assistant_presses_the_button(guarded: Desk) -> None:
    guarded.configure(guarded.device("pump-1").config(install="manual"))
    guarded.start()
    with house(guarded, "homeassistant") as home, house(guarded, "guest") as guest:
        home.until_there("gateway", "pump-1")
        guarded.publish("pump", "4.3.2", IMAGE)
        guarded.until_state("pump-1", "offered")
        home.until_offered("pump-1", "4.3.2")
        guest.press("pump-1")
        home.send("4.3.3")  # comes after it, and is heard
        guarded.until(lambda: ignored(guarded) == ["not_on_offer"])
        assert guarded.views()["pump-1"].state == "offered"
        home.press("pump-1")
        guarded.until_state("pump-1", "succeeded", installed_version="4.3.2")
        # What an earlier run left is found and removed with these rules, too.
        guarded.stop()
        guarded.configure()
        guarded.start()
        home.until_there("gateway")


def test_a_press_that_the_broker_kept_while_the_gateway_was_away_is_too_old(tmp_path: Path) -> None:
    whole = Desk(tmp_path, Mosquitto(tmp_path / "mosquitto", "queue_qos0_messages true").start())
    whole.gateway.preset = QUICK
    whole.gateway.config["mqtt"]["home_assistant"] = {}
    try:
        whole.configure(whole.device("pump-1").config(install="manual"))
        whole.start()
        with house(whole) as home:
            home.until_there("gateway", "pump-1")
            whole.publish("pump", "4.3.2", IMAGE)
            home.until_offered("pump-1", "4.3.2")
            whole.stop()
            home.press("pump-1")
            whole.start()
            whole.until(lambda: ignored(whole) == ["retained_command"])
            assert whole.views()["pump-1"].state == "offered"
            whole.until(lambda: whole.broker.log().count("devices/+/install (QoS 0)") > 1, "it listens again")
            home.press("pump-1")
            whole.until_state("pump-1", "succeeded", installed_version="4.3.2")
    finally:
        whole.end()


def test_one_command_removes_what_a_gateway_that_is_gone_left(barn: Desk) -> None:
    barn.configure(barn.device("pump-1").config())
    barn.start()
    file = barn.folder / "config.yaml"
    command = ("fleet", "clear-home-assistant", "--config", file)
    with house(barn) as home:
        home.until_there("gateway", "pump-1")
        barn.stop()
        assert "publishes it again" in barn.run(*command).err
        home.until_there()
        barn.start()
        home.until_there("gateway", "pump-1")
        barn.stop()
        del barn.gateway.config["mqtt"]["home_assistant"]
        barn.gateway.config["gateway"]["id"] = "desk"
        barn.write()
        assert barn.good(*command) == "desk: nothing was retained\n"
        ran = barn.good(*command, "--gateway", "barn", "--json")
        assert check_printed("fleet clear-home-assistant", ran) == {
            "gateway": "barn",
            "topics": [f"{PREFIX}/gateway/config", f"{PREFIX}/pump-1/config"],
        }
        home.until_there()
    assert barn.run(*command, "--prefix", "a/#").exit_code == 2
