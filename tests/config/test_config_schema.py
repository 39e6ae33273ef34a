"""The schema and the example are what the code says today."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from lab.configuration import ROOT, Lab

from gatewayd.config import load
from gatewayd.config.schema import json_schema, schema_text

SCHEMA = ROOT / "docs" / "config.schema.json"
EXAMPLE = ROOT / "config.example.yaml"
BAD = Path(__file__).parent / "bad"


def test_the_schema_in_the_repository_is_current() -> None:
    assert json.loads(SCHEMA.read_text()) == json.loads(schema_text()), (
        "docs/config.schema.json is stale: write it anew with `gatewayctl check-config --print-schema`"
    )


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def accepts(tree: Any) -> bool:
    return bool(Draft202012Validator(json_schema()).is_valid(tree))


def test_good_files_fit_the_schema(tmp_path: Path) -> None:
    assert accepts(yaml.safe_load(EXAMPLE.read_text()))
    assert accepts(Lab(tmp_path).tree)
    assert accepts({"mqtt": {"host": "broker"}, "devices": []})


@pytest.mark.parametrize(
    "name",
    [
        "unknown_keys",
        "wrong_choices",
        "out_of_range",
        "not_supported_yet",
        "wrong_shapes",
    ],
)
def test_bad_files_do_not_fit_the_schema(name: str) -> None:
    assert not accepts(yaml.safe_load((BAD / f"{name}.yaml").read_text()))


def test_a_fragment_fits_the_schema_and_placeholders_do() -> None:
    assert accepts({"mqtt": {"client_id": "${machine_id}"}, "gateway": {"id": "gw-${hostname}"}})
    assert not accepts({"gateway": {"id": "${host}"}})
    assert not accepts({"keys": {"${hostname}": {}}})


def test_defaults_in_the_schema_take_neither_name_nor_port() -> None:
    tree = {"mqtt": {"host": "broker"}, "devices": [], "defaults": {"attempts": 3, "link": {"baud": 9600}}}
    assert accepts(tree)
    assert not accepts(tree | {"defaults": {"name": "x"}})
    assert not accepts(tree | {"defaults": {"link": {"uart": "/dev/x"}}})


def test_the_example_is_valid_when_its_files_exist(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    text = EXAMPLE.read_text()
    for written, real in {
        "/etc/gatewayd/mqtt-password": "password",
        "/etc/gatewayd/keys/pump.decrypt.key.bin": "decrypt.key.bin",
        "/etc/gatewayd/keys/pump.verify.key.bin": "verify.key.bin",
    }.items():
        assert text.count(written) == 1
        text = text.replace(written, real)
    lab.file.write_text(text)
    settings = load(lab.file)
    names = ["pump-1", "pump-3", "sensor-3", "pump-2", "sensor-1"]
    assert [device.name for device in settings.devices] == names
    assert [str(warning).split(": ")[1] for warning in settings.warnings] == [
        "mqtt.password_file",
        "devices[2].payload",
        "devices[2].protocol",
    ]


def keys_of(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[str]:
    for key, inner in node.get("properties", {}).items():
        yield key
        for variant in [inner, *inner.get("anyOf", []), *inner.get("oneOf", [])]:
            target = variant.get("$ref", "").removeprefix("#/$defs/")
            yield from keys_of(schema, schema["$defs"][target] if target else variant)
    if node.get("additionalProperties"):
        yield from keys_of(schema, schema["$defs"]["KeyFiles"])
        yield from keys_of(schema, schema["$defs"]["Adapter"])
    if node.get("properties", {}).get("devices"):
        yield from keys_of(schema, schema["$defs"]["Device"])


def written_keys(node: Any) -> Iterator[str]:
    for key, inner in (
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    ):
        yield str(key)
        yield from written_keys(inner)


def test_the_example_shows_every_key() -> None:
    schema = json_schema()
    known = set(keys_of(schema, schema))
    assert {"host", "ota_key_file", "expect", "trial_s", "state_dir"} <= known
    # Those that exclude their neighbours can only be shown as a comment.
    text = re.sub(
        r"(?m)^  # (tls:|connect: \{|home_assistant:|  \w+_file:|  pins:|  prefix:)",
        r"  \1",
        EXAMPLE.read_text(),
    )
    text = text.replace("  connect: always\n", "").replace("    # line:", "    line:")
    text = text.replace("# ota_key_file:", "ota_key_file:")
    shown = set(written_keys(yaml.safe_load(text)))
    assert known - shown == set()


def test_the_example_names_the_schema_for_editors() -> None:
    first = EXAMPLE.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (EXAMPLE.parent / first.split("=")[1]) == SCHEMA


def test_the_examples_values_are_the_defaults_it_claims() -> None:
    """Except `payload`, whose comment names the default."""
    tree = yaml.safe_load(EXAMPLE.read_text())
    definitions = json_schema()["$defs"]
    for part, model in [
        (tree["gateway"], "Gateway"),
        (tree["mqtt"], "MqttSection"),
        (tree["keys"]["pump"], "KeyFiles"),
        (tree["devices"][0], "Device"),
        (tree["devices"][0]["link"], "UartSettings"),
        (tree["devices"][1]["link"], "BleSettings"),
        (tree["devices"][1]["link"]["limits"], "BleLimits"),
        (tree["adapters"]["hci0"], "Adapter"),
    ]:
        for key, value in part.items():
            field = definitions[model]["properties"][key]
            if "default" in field and key != "payload":
                assert value == field["default"], key
