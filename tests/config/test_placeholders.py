"""`${hostname}` and `${machine_id}`, and nothing more."""

import socket
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lab.configuration import Lab

from gatewayd.config import ConfigErrors, Host, host, load
from gatewayd.config.document import Document
from gatewayd.config.host import app_specific
from gatewayd.config.placeholders import escape, fill_in

BARN = Host("barn-pi", "5" * 32, is_here=False)


def filled(text: str) -> str:
    document = Document(Path("config.yaml"), BARN, root={"key": [text]})
    fill_in(document)
    assert not document.mistakes
    result: str = document.root["key"][0]
    return result


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${hostname}", "barn-pi"),
        ("x-${hostname}-${machine_id}.", f"x-barn-pi-{'5' * 32}."),
        ("$${hostname}", "${hostname}"),
        ("$5, $$, $HOME, {hostname}, $ {hostname}", "$5, $$, $HOME, {hostname}, $ {hostname}"),
        ("$$${hostname}", "$${hostname}"),
    ],
)
def test_what_is_meant(written: str, meant: str) -> None:
    assert filled(written) == meant


@given(st.text(alphabet="${}hostname x"))
def test_what_is_escaped_comes_back(text: str) -> None:
    assert filled(escape(text)) == text


@pytest.mark.parametrize("text", ["${HOSTNAME}", "${}", "${hostname", "${ hostname }", "${env:HOME}", "${"])
def test_anything_else_is_a_mistake(tmp_path: Path, text: str) -> None:
    lab = Lab(tmp_path)
    lab.tree["mqtt"]["client_id"] = text
    (told,) = lab.errors()
    assert told.startswith(
        "config.yaml:7: mqtt.client_id: ${…} must be ${hostname} or ${machine_id}. Write $${ for"
    )


def test_in_all_values_of_a_file_and_of_the_fragments(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["gateway"]["id"] = "gw-${hostname}"
    lab.tree["keys"]["pump"]["verify_key_file"] = "${hostname}/verify.key.bin"
    lab.tree["devices"][0]["link"]["wake"] = {"send": "$${${hostname}}"}
    (tmp_path / "barn-pi").symlink_to(".")
    lab.file.write_text(yaml.safe_dump(lab.tree))
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "1.yaml").write_text('mqtt: {client_id: "${machine_id}"}\n')
    settings = load(lab.file, BARN)
    assert settings.gateway.id == "gw-barn-pi"
    assert settings.mqtt.client_id == "5" * 32
    assert settings.devices[0].link.wake.send == "${barn-pi}"  # type: ignore[union-attr]  # a serial port's


def test_not_in_keys(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["keys"]["${hostname}"] = dict(lab.tree["keys"]["pump"])
    (told,) = lab.errors()
    assert told.startswith("config.yaml:11: keys.${hostname}: expected a name of 1 to 64 of the characters")


def test_what_is_put_in_is_text_whatever_it_looks_like(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["mqtt"] = {"host": "broker", "client_id": "${hostname}"}
    lab.settings()
    assert load(lab.file, Host("no", is_here=False)).mqtt.client_id == "no"


# -- the machine


def test_here_is_the_name_of_this_machine(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["gateway"] = {}
    lab.tree["mqtt"]["client_id"] = "${hostname}"
    settings = lab.settings()
    assert settings.gateway.id == settings.mqtt.client_id == socket.gethostname()


@pytest.mark.parametrize(
    ("machine_id", "derived"),
    [  # of `systemd-id128 machine-id --app-specific=APPLICATION`, systemd 252
        ("0123456789abcdef0123456789abcdef", "5e957e7e06c0470281e2156621559bae"),
        ("ffffffffffffffffffffffffffffffff", "0e4cc1e7ef9240368fd99344758022a9"),
    ],
)
def test_the_machine_id_is_derived_as_systemd_does_it(machine_id: str, derived: str) -> None:
    assert app_specific(machine_id) == derived


def test_the_machine_id_itself_is_in_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_id = "0123456789abcdef0123456789abcdef"
    (tmp_path / "machine-id").write_text(f"{machine_id}\n")
    monkeypatch.setattr(host, "_MACHINE_ID_FILE", tmp_path / "machine-id")
    lab = Lab(tmp_path)
    lab.tree["mqtt"]["client_id"] = "${machine_id}"
    assert lab.settings().mqtt.client_id == "5e957e7e06c0470281e2156621559bae"


@pytest.mark.parametrize("content", [None, b"", b"uninitialized\n", b"\xff" * 32, b"0" * 33])
def test_a_machine_without_an_id_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    file = tmp_path / "machine-id"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(host, "_MACHINE_ID_FILE", file)
    lab = Lab(tmp_path)
    assert not lab.errors()  # who does not ask for it needs none
    lab.tree["mqtt"]["client_id"] = "${machine_id}"
    (told,) = lab.errors()
    what = "cannot be read: No such file or directory" if content is None else "does not hold a machine id"
    assert told.startswith(f"config.yaml:7: mqtt.client_id: machine-id {what}")


def test_a_name_that_no_gateway_can_have_is_told(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["gateway"] = {}
    lab.settings()
    with pytest.raises(ConfigErrors, match=r"gateway\.id: expected 1 to 64 of the characters"):
        load(lab.file, Host("barn pi", is_here=False))
