"""Keys and shapes of other programs, and corrections that are the last ones."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gatewayd.config import ConfigErrors, foreign, load
from gatewayd.config.corrections import TRUTHS, WHOLE_NUMBERS
from gatewayd.config.document import parse_document
from gatewayd.config.loader import ConfigFile
from gatewayd.config.model import (
    LINKS,
    Adapter,
    BleLimits,
    Device,
    Gateway,
    KeyFiles,
    MqttSection,
    Settings,
)

BAD = Path(__file__).parent / "bad"
PARTS: list[tuple[foreign.Keys, tuple[type[BaseModel], ...]]] = [
    (foreign.ROOT, (ConfigFile,)),
    (foreign.GATEWAY, (Gateway,)),
    (foreign.MQTT, (MqttSection,)),
    (foreign.ADAPTER, (Adapter,)),
    (foreign.KEY_SET, (KeyFiles,)),
    (foreign.DEVICE, (Device,)),
    (foreign.LINK, tuple(LINKS.values())),
]


@pytest.mark.parametrize(("keys", "models"), PARTS)
def test_no_key_of_ours_is_taken_for_one_of_another_program(
    keys: foreign.Keys, models: tuple[type[BaseModel], ...]
) -> None:
    ours = {key for model in models for key in model.model_fields}
    assert not ours & {*keys.ours, *keys.hints}
    assert not [key for key in ours if foreign.is_line_setting(key)]


def test_the_keys_of_whole_numbers_are_known() -> None:
    models: list[type[BaseModel]] = [Gateway, MqttSection, Adapter, Device, BleLimits, *LINKS.values()]
    numbers = {
        key
        for model in models
        for key, field in model.model_fields.items()
        if field.annotation is int or "int" in re.findall(r"\w+", str(field.annotation))
    }
    assert numbers - {"smp"} <= WHOLE_NUMBERS


def test_the_keys_that_are_true_or_false_are_known() -> None:
    models: list[type[BaseModel]] = [Gateway, MqttSection, Adapter, Device, KeyFiles, *LINKS.values()]
    fields = [one for model in models for one in model.model_fields.items()]
    assert {key for key, field in fields if field.annotation is bool} <= TRUTHS


CORRECTIONS = {
    "devices_as_a_mapping": """
mqtt:
  host: 192.0.2.10
  port: 1883
  status_topic: gatewayd
  username: pi
devices:
  - name: pump-1
    app_id: pump
    link: {uart: /dev/ttyUSB0, baud: 9600}
    version: "4.10.0"
  - name: pump-2
    link: {ble: "00:11:22:33:44:55"}
    app_id: pump
    version: "4.3.1"
""",
    "one_device_as_a_mapping": """
mqtt:
  host: localhost
devices:
  - name: boiler
    app_id: pump
    version: 4.3.1
    link: {uart: /dev/ttyUSB1, baud: 19200}
""",
    "number_for_a_version": """
mqtt: {host: localhost}
devices:
  - name: pump-1
    app_id: pump
    version: "4.3.0"
    link: {uart: /dev/serial/by-id/usb-one, baud: 115200}
""",
}


@pytest.mark.parametrize("name", CORRECTIONS)
def test_doing_what_is_told_once_is_enough(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors):
        load(BAD / f"{name}.yaml")
    (tmp_path / "config.yaml").write_text(CORRECTIONS[name])
    settings = load(tmp_path / "config.yaml")
    assert isinstance(settings, Settings)
    assert settings.devices


def loaded(tmp_path: Path, text: str) -> Settings:
    (tmp_path / "config.yaml").write_text(text)
    return load(tmp_path / "config.yaml")


def test_what_is_written_as_an_escape_is_meant(tmp_path: Path) -> None:
    text = (
        "mqtt: {host: broker}\ndevices:\n  - name: pump-1\n    app_id: pump\n"
        '    version: "1.0.0"\n    link: {uart: "/dev/by\\u2013id\\x20"}\n'
    )
    assert loaded(tmp_path, text).devices[0].link.address == "/dev/by\N{EN DASH}id "


def test_a_free_text_with_an_odd_character_is_a_warning_and_what_is_sent_is_left_alone(
    tmp_path: Path,
) -> None:
    text = (
        "mqtt: {host: localhost}\ndevices:\n  - name: tag-1\n    app_id: tag\n    version: 1.0.0\n"
        "    hardware_id: 'rev-b '\n    link: {ble: {name: 'B\u00fcro\u00a01'}}\n"
        "  - name: pump-1\n    app_id: pump\n    version: 1.0.0\n"
        "    link: {uart: /dev/pump-1, wake: {send: ' AT '}}\n"
    )
    told = [warning for warning in loaded(tmp_path, text).warnings if "U+" in warning.message]
    assert [(one.line, one.column, one.key_path) for one in told] == [
        (6, 24, "devices[0].hardware_id"),
        (7, 29, "devices[0].link.ble.name"),
    ]


def test_other_alphabets_are_what_they_look_like() -> None:
    words: list[Any] = [
        "\u043d\u0430\u0441\u043e\u0441",
        "K\u00fcche",
        "\u6c34\u6cf5",
        "\u03b1\u03bd\u03c4\u03bb\u03af\u03b1",
    ]
    for word in words:
        assert parse_document(Path("config.yaml"), f"a: {word}\n".encode()).mistakes == []


def test_crlf_is_a_line_end_and_a_byte_order_mark_may_come_first(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"\xef\xbb\xbfmqtt: {host: broker}\r\ndevices: []\r\n")
    assert load(tmp_path / "config.yaml").mqtt.host == "broker"


@pytest.mark.parametrize("text", ["client_id: ${hostname}", "client_id: [${hostname}]"])
def test_a_placeholder_within_braces_belongs_in_quotes(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        loaded(tmp_path, f"mqtt: {{host: broker, {text}}}\ndevices: []\n")
    assert 'Put it in quotes within { } and [ ]: "${hostname}"' in str(caught.value)
