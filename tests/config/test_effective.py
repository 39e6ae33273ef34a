"""`gatewayctl config --effective`: all of it, where it comes from, and nothing secret."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab.configuration import KEY, PASSWORD, ROOT, Lab
from lab.containers import gatewayctl
from lab.control_schema import check_printed

from gatewayd.config import Settings, load
from gatewayd.config.host import Host

FRAGMENT = """\
mqtt: {client_id: "$${x}-${hostname}"}
keys: {"4.10": {verify_key_file: verify.key.bin, allow_shared_key: true}}
adapters: {hci1: {max_connections: 5}}
devices:
  - name: tag-1
    app_id: tag
    version: "1.0.0"
    install: manual
    link: {ble: "C0:FF:EE:00:00:01", limits: {scan_s: "1.5"}}
  - name: tag-2
    app_id: tag
    version: "1.0.0"
    link: {ble: {name: "\\x9b\\U0001F600é\\u202e\\"no\\""}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path)
    lab.tree["keys"]["pump"]["allow_shared_key"] = True
    lab.tree["devices"][0]["link"]["wake"] = {"send": "AT\r\n\x7f", "expect": "OK"}
    lab.settings()
    (tmp_path / "conf.d").mkdir()
    fragment = FRAGMENT.replace("\\x9b\\U0001F600é\\u202e", "\\U0001F600é\\u202e")
    (tmp_path / "conf.d" / "10-tags.yaml").write_text(fragment)
    return lab


def printed(lab: Lab, *words: str) -> str:
    ran = gatewayctl("config", "--effective", *words, str(lab.file))
    assert (ran.exit_code, ran.err) == (0, ""), ran
    return ran.out


def essence(settings: Settings) -> Any:
    return (
        settings.model_dump(exclude={"file"}),
        settings.key_files,
        settings.key_sets,
        settings.mqtt.password,
    )


def test_what_is_printed_comes_to_the_same(lab: Lab, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    (again / "config.yaml").write_text(printed(lab))
    assert essence(load(again / "config.yaml")) == essence(load(lab.file))


def test_what_is_printed_of_the_example_comes_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((ROOT / "config.example.yaml").read_text())
    barn = Host("barn-pi", is_here=False)
    once = load(tmp_path / "config.yaml", barn)
    lab = Lab(tmp_path)
    lab.file.write_text(printed(lab, "--host", "barn-pi"))
    assert essence(load(lab.file, barn)) == essence(once)


def test_each_value_has_its_source(lab: Lab) -> None:
    lines = [line.strip() for line in printed(lab).splitlines()]
    for line in (
        'id: "barn-pi"  # config.yaml:2',
        "port: 1883  # default",
        f'client_id: "$${{x}}-{os.uname().nodename}"  # conf.d/10-tags.yaml:1',
        '"4.10":',
        "max_connections: 5  # conf.d/10-tags.yaml:3",
        'payload: "advanced"  # config.yaml:13',
        'install: "manual"  # conf.d/10-tags.yaml:8',
        'address: "C0:FF:EE:00:00:01"  # conf.d/10-tags.yaml:9',
        'scan_s: "1.5"  # conf.d/10-tags.yaml:9',
        "connect_s: 20  # default",
        'send: "AT\\r\\n\\x7F"  # config.yaml:22',
    ):
        assert line in lines, line
    assert lines[0].endswith("read: config.yaml, conf.d/10-tags.yaml")


def test_json_has_values_and_sources(lab: Lab) -> None:
    document = check_printed("config", printed(lab, "--json"))
    tree, sources = document["configuration"], document["sources"]
    assert document["files"] == [str(lab.file), str(lab.folder / "conf.d" / "10-tags.yaml")]
    assert tree["mqtt"]["port"] == 1883
    assert sources["mqtt.port"] is None
    assert sources["mqtt.host"] == {"file": str(lab.file), "line": 4}
    assert sources["devices[1].link.limits.scan_s"]["line"] == 9
    assert sources["devices[0].payload"] == {"file": str(lab.file), "line": 13}


def test_nothing_secret_is_printed_and_nothing_steers_the_terminal(lab: Lab) -> None:
    for text in (printed(lab), printed(lab, "--json")):
        for secret in (PASSWORD, KEY.decrypt_key.hex(), repr(KEY.decrypt_key)[2:-1]):
            assert secret not in text
        assert str(lab.folder / "password") in text
        assert "tls_digest" not in text
    assert all(letter.isprintable() or letter == "\n" for letter in printed(lab))


def test_mistakes_end_it_with_78(lab: Lab) -> None:
    lab.file.write_text("mqtt: {port: 0}\n")
    ran = gatewayctl("config", "--effective", str(lab.file))
    assert (ran.exit_code, ran.out) == (78, "")
    assert f"{lab.file}:1: mqtt.port: expected 1 or more" in ran.err
    ran = gatewayctl("config", "--effective", "--json", str(lab.file))
    assert check_printed("config", ran.out)["error"]["code"] == "bad_configuration"


def test_effective_has_to_be_said(lab: Lab) -> None:
    assert gatewayctl("config", str(lab.file)).exit_code == 2


def test_any_yaml_reader_understands_it(lab: Lab) -> None:
    tree = json.loads(printed(lab, "--json"))["configuration"]
    read = yaml.safe_load(printed(lab).replace("$${", "${"))
    read["devices"][1]["link"]["limits"]["scan_s"] = 1.5
    assert read == tree
