"""mqtt.tls and credentials, as a configuration has them."""

from pathlib import Path

import pytest
from lab.certificates import OURS
from lab.configuration import Lab, private_file

WORD = "opensesame"
PIN = "sha256:" + "ab" * 32


@pytest.fixture(name="lab")
def _lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path)
    (tmp_path / "ca.pem").write_bytes(OURS.pem)
    OURS.vouch("barn").write(tmp_path, "client", password=WORD)
    private_file(tmp_path / "key-password", b"opensesame\n")
    lab.tree["mqtt"]["tls"] = {
        "ca_file": "ca.pem",
        "cert_file": "client.pem",
        "key_file": "client.key",
        "key_password_file": "key-password",
        "pins": [PIN.upper().replace("SHA256", "sha256")],
    }
    return lab


def test_everything_is_read(lab: Lab) -> None:
    mqtt = lab.settings().mqtt
    assert mqtt.trust is not None
    assert (mqtt.trust.ca_file, mqtt.trust.key_password) == (lab.folder / "ca.pem", "opensesame")
    assert mqtt.trust.pins == (PIN,)
    assert "opensesame" not in repr(mqtt) + repr(mqtt.trust) + mqtt.model_dump_json()


def test_the_port_follows_tls_unless_it_is_given(lab: Lab) -> None:
    assert lab.settings().mqtt.port == 8883
    lab.tree["mqtt"]["port"] = 1234
    assert lab.settings().mqtt.port == 1234
    del lab.tree["mqtt"]["port"], lab.tree["mqtt"]["tls"]
    assert lab.settings().mqtt.port == 1883


def test_with_tls_a_password_may_go_far(lab: Lab) -> None:
    lab.tree["mqtt"]["host"] = "broker.example.com"
    assert not any("unencrypted" in warning for warning in lab.warnings())
    del lab.tree["mqtt"]["tls"]
    assert any("unencrypted" in warning for warning in lab.warnings())


def test_a_renewed_certificate_is_another_configuration(lab: Lab) -> None:
    before = lab.settings().mqtt
    assert lab.settings().mqtt == before
    OURS.vouch("barn").write(lab.folder, "client", password=WORD)
    assert lab.settings().mqtt != before


@pytest.mark.parametrize("name", ["client.key", "key-password", "password"])
def test_a_secret_that_everybody_can_read_is_refused(lab: Lab, name: str) -> None:
    (lab.folder / name).chmod(0o644)
    (error,) = lab.errors()
    assert (
        f"{name} is readable by everybody (mode 0644). Run: chown gatewayd {name} && chmod 600 {name}"
        in error
    )


def test_a_key_inside_the_certificate_makes_that_a_secret(lab: Lab) -> None:
    identity = OURS.vouch("barn")
    private_file(lab.folder / "both.pem", identity.pem + identity.key_pem(), 0o644)
    lab.tree["mqtt"]["tls"] = {"cert_file": "both.pem"}
    assert "both.pem is readable by everybody" in lab.errors()[0]
    (lab.folder / "both.pem").chmod(0o640)
    assert lab.errors() == []


def test_what_does_not_fit_together_is_told_with_its_line(lab: Lab) -> None:
    private_file(lab.folder / "key-password", b"closesesame\n")
    (error,) = lab.errors()
    assert "mqtt.tls: client.pem with client.key: the key does not open with the password" in error


def test_credentials_come_from_where_systemd_says(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = lab.folder / "credentials"
    credentials.mkdir()
    private_file(credentials / "mqtt", b"from systemd", 0o400)
    lab.tree["mqtt"] |= {"password_file": "credential:mqtt"}
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (error,) = lab.errors()
    assert "LoadCredential=mqtt:" in error
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    password = lab.settings().mqtt.password
    assert password is not None
    assert password.get_secret_value() == "from systemd"
    lab.tree["mqtt"] |= {"password_file": "credential:../password"}
    assert "expected credential:NAME" in lab.errors()[0]
