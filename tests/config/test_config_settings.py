"""What a good configuration becomes, and what its parts must not do to each other."""

import json
import os
import re
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.configuration import KEY, PASSWORD, Lab, private_file
from lab.jobs import a_device
from pydantic import BaseModel, ConfigDict, ValidationError

from gatewayd.config import BleSettings, ConfigErrors, Periodic, UartSettings, Wake, load, load_at_start
from gatewayd.config.duration import PATTERN as DURATION_PATTERN
from gatewayd.config.duration import duration_text, read_duration
from gatewayd.config.loader import with_login
from gatewayd.errors import ConfigError
from gatewayd.ota.keys import KeySet
from gatewayd.ota.patch import PatchEncoding
from gatewayd.ota.rules import Deliver, Payload, SlotMatch
from gatewayd.ota.topic import Channel, TopicTemplate
from gatewayd.ota.version import Version
from gatewayd.protocol.kind import ProtocolKind
from gatewayd.protocol.registry import PROTOCOLS


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_defaults_of_the_least_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("mqtt: {host: broker}\ndevices: []\n")
    settings = load(file)
    assert settings.gateway.id == socket.gethostname()
    assert settings.gateway.state_dir == Path("/var/lib/gatewayd")
    assert settings.gateway.control_socket == Path("/run/gatewayd/control.sock")
    assert settings.mqtt.client_id == f"gatewayd-{socket.gethostname()}"
    assert (settings.mqtt.port, settings.mqtt.username, settings.mqtt.password) == (1883, None, None)
    assert settings.mqtt.ota_topic == TopicTemplate("/a/{app_id}/u/{major}.{minor}")
    assert (settings.mqtt.status_topic, settings.mqtt.max_message_mib) == ("gatewayd/{gateway_id}", 16)
    assert (settings.devices, settings.key_sets, settings.warnings) == ((), {}, ())


def test_defaults_of_the_least_device(lab: Lab) -> None:
    del lab.tree["defaults"]
    device = lab.settings().devices[0]
    assert (device.name, device.app_id, device.hardware_id) == ("pump-1", "pump", None)
    assert device.version == Version(4, 3, 1)
    assert (device.channel, device.channels) == ("none", (Channel.NONE,))
    assert (device.patch_encoding, device.payload) == (PatchEncoding.VARINT, Payload.STANDARD)
    assert (device.keys, device.deliver, device.slot_match) == (None, Deliver.ROM, SlotMatch.EXACT)
    assert (device.allow_unsigned, device.allow_downgrade) == (False, False)
    assert (device.install, device.probe, device.attempts) == ("auto", "start", 5)
    assert (device.protocol, device.trial_s) == ("rcp", 600)
    assert device.link == UartSettings(uart="/dev/pump-1")
    link = device.link
    assert (link.baud, link.transfer_baud, link.dtr, link.rts, link.wake) == (
        115200,
        None,
        False,
        False,
        None,
    )


def test_all_settings_of_a_device_arrive(lab: Lab) -> None:
    wake = {"send": "AT+OTA\r\n", "expect": "OK"}
    link = {"uart": "/dev/x", "baud": 9600, "transfer_baud": 921600, "dtr": True, "rts": True, "wake": wake}
    written: dict[str, Any] = {
        "hardware_id": "rev-b",
        "channel": "both",
        "patch_encoding": "byte",
        "payload": "advanced",
        "keys": "pump",
        "deliver": "container",
        "slot_match": "low20",
        "allow_unsigned": True,
        "allow_downgrade": True,
        "install": "manual",
        "probe": "job",
        "attempts": 100,
        "trial_s": 1,
        "protocol": "rcp",
    }
    lab.tree["devices"] = [lab.device("pump-1", link=link, **written)]
    device = lab.settings().devices[0]
    assert {key: getattr(device, key) for key in written} == written
    assert device.channels == (Channel.STABLE, Channel.UNSTABLE)
    assert device.patch_encoding is PatchEncoding.BYTE
    assert device.link.wake == Wake(send="AT+OTA\r\n", expect="OK")
    assert (device.link.baud, device.link.transfer_baud, device.link.dtr) == (9600, 921600, True)


@pytest.mark.parametrize(("channel", "member"), [("stable", Channel.STABLE), ("unstable", Channel.UNSTABLE)])
def test_a_single_channel(lab: Lab, channel: str, member: Channel) -> None:
    lab.tree["defaults"]["channel"] = channel
    assert lab.settings().devices[0].channels == (member,)


def test_a_devices_own_value_wins_and_link_is_merged(lab: Lab) -> None:
    lab.tree["defaults"] |= {"attempts": 7, "trial_s": 9, "link": {"baud": 9600, "dtr": True}}
    own = {"uart": "/dev/b", "baud": 19200}
    lab.tree["devices"] = [lab.device("a"), lab.device("b", attempts=2, keys=None, link=own)]
    first, second = lab.settings().devices
    assert (first.attempts, first.trial_s) == (7, 9)
    assert (second.attempts, second.trial_s) == (2, 9)
    assert first.link == UartSettings(uart="/dev/a", baud=9600, dtr=True)
    assert second.link == UartSettings(uart="/dev/b", baud=19200, dtr=True)
    assert (first.keys, second.keys) == ("pump", None)


def test_each_kind_of_link_takes_what_is_meant_for_it(lab: Lab) -> None:
    common = {"baud": 9600, "wake": {"send": "OTA"}, "adapter": "hci1", "limits": {"scan_s": 60}}
    lab.tree["defaults"]["link"] = common
    lab.tree["adapters"] = {"hci1": {"max_connections": 5}}
    links = {"b": {"ble": {"name": "b"}}, "c": {"ble": {"name": "c"}, "wake": "advertisement"}}
    lab.tree["devices"] = [lab.device("a"), *(lab.device(name, link=link) for name, link in links.items())]
    settings = lab.settings()
    serial, awake, sleepy = (device.link for device in settings.devices)
    assert serial == UartSettings(uart="/dev/a", baud=9600, wake=Wake(send="OTA"))
    assert isinstance(awake, BleSettings)
    assert isinstance(sleepy, BleSettings)
    assert (awake.address, awake.adapter, awake.limits.scan_s, awake.pair) == ("b", "hci1", 60, True)
    assert (awake.wake, sleepy.wake) == (None, "advertisement")
    assert settings.adapters["hci1"].max_connections == 5


def test_a_device_that_does_not_pair_is_warned_of_unless_it_verifies(lab: Lab) -> None:
    link = {"ble": {"name": "a"}, "pair": False}
    lab.tree["devices"] = [lab.device("a", link=link)]
    assert any("radio range" in str(warning) for warning in lab.settings().warnings)
    lab.tree["devices"] = [lab.device("a", link=link, deliver="container")]
    assert not any("radio range" in str(warning) for warning in lab.settings().warnings)


def test_a_device_with_a_name_alone_is_warned_of(lab: Lab) -> None:
    warning = "devices[0].link.ble: another device nearby of this name"
    lab.tree["devices"] = [lab.device("a", link={"ble": {"name": "a"}})]
    assert warned(lab, warning)
    data = {"uuid": "c1b70001-3e5a-4d8b-9f06-67617465776d", "starts_with": "0a"}
    lab.tree["devices"] = [lab.device("a", link={"ble": {"name": "a", "service_data": data}})]
    assert not warned(lab, warning)
    lab.tree["devices"] = [lab.device("a", link={"ble": {"name": "a"}}, device_id="board-1")]
    assert not warned(lab, warning)


@pytest.mark.parametrize(
    ("address", "pair", "warns"),
    [
        ("5C:FF:EE:00:00:01", False, True),
        ("5C:FF:EE:00:00:01", True, False),
        ("C0:FF:EE:00:00:01", False, False),
    ],
)
def test_an_address_that_may_change_is_warned_of(lab: Lab, address: str, pair: bool, warns: bool) -> None:
    lab.tree["devices"] = [lab.device("a", link={"ble": address, "pair": pair})]
    lab.file.write_text(json.dumps(lab.tree))  # which quotes the address
    assert any("private address" in str(warning) for warning in load(lab.file).warnings) is warns


def test_client_id_follows_the_gateway_id(lab: Lab) -> None:
    assert lab.settings().mqtt.client_id == "gatewayd-barn-pi"
    lab.tree["mqtt"]["client_id"] = "mine"
    assert lab.settings().mqtt.client_id == "mine"


def test_keys_and_password_are_read_relative_to_the_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = lab.settings()
    assert settings.key_sets == {"pump": KeySet(KEY.decrypt_key, KEY.verify_key, allow_shared_key=False)}
    assert settings.keys_of(settings.devices[0]) == settings.key_sets["pump"]
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == PASSWORD
    monkeypatch.chdir(lab.folder)
    assert load(Path("config.yaml")).key_sets == settings.key_sets


def test_an_ota_key_gives_both_keys_and_a_warning(lab: Lab) -> None:
    lab.tree["keys"]["pump"] = {"ota_key_file": "ota.key", "allow_shared_key": True}
    assert lab.settings().key_sets["pump"] == KeySet(KEY.decrypt_key, KEY.verify_key, allow_shared_key=True)
    [warning] = lab.warnings()
    assert "keys.pump.ota_key_file: also holds the signing key" in warning


def test_secrets_are_in_no_text(lab: Lab) -> None:
    settings = lab.settings()
    texts = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    for secret in (PASSWORD, KEY.decrypt_key.hex(), repr(KEY.decrypt_key), KEY.decrypt_key.decode("latin1")):
        assert not [text for text in texts if secret in text]
    assert json.loads(texts[2])["devices"][0]["version"] == "4.3.1"


@pytest.mark.attack("a secret that everybody may read", "bad_configuration")
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("password", "mqtt.password_file"),
        ("decrypt.key.bin", "keys.pump.decrypt_key_file"),
        ("ota.key", "keys.pump.ota_key_file"),
    ],
)
def test_a_secret_that_everybody_may_read_is_refused(lab: Lab, name: str, key: str) -> None:
    if name == "ota.key":
        lab.tree["keys"]["pump"] = {"ota_key_file": "ota.key"}
    (lab.folder / name).chmod(0o640)
    assert lab.errors() == []
    (lab.folder / name).chmod(0o644)
    [error] = lab.errors()
    assert (
        f"{key}: {name} is readable by everybody (mode 0644). Run: chown gatewayd {name} && chmod 600 {name}."
        in error
    )


@pytest.mark.attack("a key that everybody may change", "bad_configuration")
def test_a_key_that_everybody_may_change_is_refused(lab: Lab) -> None:
    (lab.folder / "verify.key.bin").chmod(0o646)
    [error] = lab.errors()
    assert "verify.key.bin is writable by everybody (mode 0646)" in error


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 2000, b"nul\0"])
def test_a_password_is_one_line_and_never_shown(lab: Lab, content: bytes) -> None:
    private_file(lab.folder / "password", content)
    [error] = lab.errors()
    assert error.startswith("config.yaml:6: mqtt.password_file: password: expected")
    assert "two" not in error


@pytest.mark.attack("a damaged key", "bad_configuration")
def test_a_damaged_key_is_refused_without_showing_it(lab: Lab) -> None:
    private_file(lab.folder / "decrypt.key.bin", b"secret" * 5)
    private_file(lab.folder / "verify.key.bin", KEY.verify_key[:31])
    errors = lab.errors()
    assert [error.split(": ")[1] for error in errors] == [
        "keys.pump.decrypt_key_file",
        "keys.pump.verify_key_file",
    ]
    assert "got 31" in errors[1]
    assert "secret" not in str(errors)
    private_file(lab.folder / "ota.key", b"secret" * 5)
    lab.tree["keys"]["pump"] = {"ota_key_file": "ota.key"}
    [error] = lab.errors()
    assert "expected 128 hex digits" in error
    assert "secret" not in error


@pytest.mark.attack("a named pipe in a key's place", "bad_configuration")
def test_a_named_pipe_in_place_of_a_key_does_not_block(lab: Lab) -> None:
    os.mkfifo(lab.folder / "pipe")
    lab.tree["keys"]["pump"] = {"decrypt_key_file": "pipe"}
    [error] = lab.errors()
    assert "pipe is not a regular file" in error


def test_what_leads_to_one_port_at_the_moment_is_a_warning_and_stops_nobody(lab: Lab) -> None:
    (lab.folder / "port").touch()
    (lab.folder / "by-id").symlink_to("port")
    lab.tree["devices"] = [
        lab.device("a", link={"uart": str(lab.folder / "port")}),
        lab.device("b", link={"uart": str(lab.folder / "by-id")}),
    ]
    assert lab.errors() == []
    there, here = warned(lab, "at the moment")
    assert "devices[0].link.uart: leads to the port of b at the moment" in there
    assert "devices[1].link.uart: leads to the port of a at the moment" in here
    (lab.folder / "by-id").unlink()
    assert warned(lab, "at the moment") == []


def break_key(lab: Lab, how: str) -> None:
    key = lab.folder / "decrypt.key.bin"
    if how == "gone":
        key.unlink()
    elif how == "damaged":
        key.write_bytes(b"short")
    else:
        key.chmod(0o666 if how == "open to all" else 0o604)


@pytest.mark.parametrize("how", ["gone", "damaged", "open to all", "readable by all"])
def test_at_a_start_a_bad_key_file_costs_its_key_set_alone(lab: Lab, how: str) -> None:
    lab.tree["devices"].append(lab.device("tag-1", app_id="tag", payload="standard", keys=None))
    assert lab.settings() == load_at_start(lab.file)
    break_key(lab, how)
    assert len(lab.errors()) >= 1, "check-config and reload refuse it"
    settings = load_at_start(lab.file)
    pump, tag = settings.devices
    assert "decrypt.key.bin" in settings.missing_keys(pump)
    assert settings.missing_keys(tag) == ""
    assert settings.key_sets == {}, "half a key set is none"
    with pytest.raises(ConfigError) as refused:
        settings.keys_of(pump)
    assert refused.value.code == "keys_unusable"
    assert any("decrypt.key.bin" in str(warning) for warning in settings.warnings)


@pytest.mark.parametrize("how", ["gone", "readable by all", "damaged"])
def test_at_a_start_a_bad_password_file_costs_the_connection_alone(lab: Lab, how: str) -> None:
    assert lab.settings().mqtt.unusable == ""
    file = lab.folder / "password"
    match how:
        case "gone":
            file.rename(lab.folder / "moved")
        case "readable by all":
            file.chmod(0o644)
        case _:
            file.write_bytes(b"\xff\x00")
    assert len(lab.errors()) == 1, "check-config and reload refuse it"
    settings = load_at_start(lab.file)
    assert str(file) in settings.mqtt.unusable
    assert any(str(file) in str(warning) for warning in settings.warnings)
    with pytest.raises(ConfigErrors, match="password"):
        with_login(settings)
    private_file(lab.folder / "password", b"another\n")
    mended = with_login(settings).mqtt
    assert (mended.unusable, mended.password and mended.password.get_secret_value()) == ("", "another")


def test_at_a_start_a_certificate_that_is_gone_costs_the_connection_alone(lab: Lab) -> None:
    lab.tree["mqtt"]["tls"] = {"ca_file": "ca.pem"}
    assert len(lab.errors()) == 1
    settings = load_at_start(lab.file)
    assert "mqtt.tls.ca_file" in settings.mqtt.unusable
    (lab.folder / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigErrors):
        with_login(settings)


def test_a_start_refuses_everything_else_and_tells_the_keys_too(lab: Lab) -> None:
    break_key(lab, "gone")
    lab.tree["devices"][0]["attempts"] = 0
    assert len(lab.errors()) == 2
    with pytest.raises(ConfigErrors) as refused:
        load_at_start(lab.file)
    assert len(refused.value.mistakes) == 2


@pytest.mark.attack("one key for two applications", "bad_configuration")
@pytest.mark.parametrize(("kind", "without"), [("verification", "decrypt"), ("decryption", "verify")])
def test_one_key_for_two_applications_needs_leave_in_each_set(lab: Lab, kind: str, without: str) -> None:
    del lab.tree["keys"]["pump"][f"{without}_key_file"]
    lab.tree["keys"]["valve"] = dict(lab.tree["keys"]["pump"])
    lab.tree["devices"].append(lab.device("valve-1", app_id="valve", keys="valve"))
    [error] = lab.errors()
    assert f"the {kind} key of valve serves the applications pump and valve" in error
    lab.tree["keys"]["pump"]["allow_shared_key"] = True
    assert len(lab.errors()) == 1
    lab.tree["keys"]["valve"]["allow_shared_key"] = True
    assert lab.errors() == []


def warned(lab: Lab, text: str) -> list[str]:
    return [warning for warning in lab.warnings() if text in warning]


def test_what_smp_cannot_promise_is_said(lab: Lab) -> None:
    lab.tree["devices"] = [lab.device(f"sensor-{number}", protocol="smp") for number in range(2)]
    (warning,) = lab.warnings()
    assert "a board swapped for another of its kind is not noticed (sensor-0, sensor-1)." in warning
    lab.tree["devices"][1]["device_id"] = "A50285BI"
    (warning,) = warned(lab, "device_id")
    assert "reports no serial number, so it is refused (wrong_device) (sensor-1). Leave device_id" in warning


def test_settings_of_a_protocol_that_the_device_does_not_have_are_named(lab: Lab) -> None:
    lab.tree["devices"] = [lab.device("sensor", smp={"framing": "raw"}), lab.device("pump")]
    (warning,) = lab.warnings()
    assert "devices[0].smp: has no effect with protocol: rcp (sensor). Give protocol: smp" in warning
    lab.tree["defaults"]["smp"] = lab.tree["devices"][0].pop("smp")
    assert lab.warnings() == []


def test_a_magic_that_no_image_of_the_protocol_has_is_named(lab: Lab) -> None:
    lab.tree["devices"] = [lab.device("sensor", protocol="smp", payload="standard", image_magic="e9")]
    assert warned(
        lab, "devices[0].image_magic: images for SMP (MCUmgr) begin with 3db8f396: none is accepted"
    )
    for fitting in ("3d", "3db8f39600000000"):
        lab.tree["devices"][0]["image_magic"] = fitting
        assert warned(lab, "image_magic") == []


def test_a_sound_configuration_has_no_warnings(lab: Lab) -> None:
    assert lab.warnings() == []


def test_standard_payload_warns_once_for_all_devices_where_it_is_written(lab: Lab) -> None:
    lab.tree["defaults"] = {"payload": "standard"}
    lab.tree["devices"] = [lab.device(f"pump-{n}") for n in range(8)]
    [warning] = lab.warnings()
    assert warning.startswith("config.yaml:12: defaults.payload: standard firmware has no signature")
    assert "no anti-rollback mark: anyone who may publish decides what runs" in warning
    assert "(pump-0, pump-1, pump-2, pump-3, pump-4 and 3 more)" in warning


def test_unwise_settings_are_warned_about(lab: Lab) -> None:
    lab.tree["mqtt"] = {"host": "broker.example.com", "username": "barn"}
    assert warned(lab, "mqtt.username: has no password")
    lab.tree["mqtt"]["password_file"] = "password"  # noqa: S105 - a file name
    assert warned(lab, "the password goes to broker.example.com unencrypted")
    lab.tree["defaults"]["allow_unsigned"] = True
    assert warned(lab, "unsigned containers are accepted")
    lab.tree["keys"]["pump"] = {"decrypt_key_file": "decrypt.key.bin"}
    assert warned(lab, "defaults.keys: no verification key")
    assert warned(lab, "allow_unsigned: has no effect")
    lab.tree["defaults"] |= {"allow_downgrade": True, "payload": "standard", "deliver": "container"}
    assert warned(lab, "allow_downgrade: older firmware is accepted")
    assert warned(lab, "keys has no effect; deliver: container has no effect")
    lab.tree["devices"][0]["link"]["uart"] = "/dev/ttyUSB0"
    assert warned(lab, "devices[0].link.uart: this number can change")


def test_settings_cannot_be_changed(lab: Lab) -> None:
    settings = lab.settings()
    for part in (settings, settings.gateway, settings.mqtt, settings.devices[0], settings.devices[0].link):
        field = next(iter(type(part).model_fields))
        with pytest.raises(ValidationError):
            setattr(part, field, None)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path / "config.yaml")
    assert str(caught.value) == (
        f"{tmp_path}/config.yaml: cannot be read: No such file or directory."
        " Copy config.example.yaml there, or name another file with --config."
    )


def test_a_metered_link(lab: Lab) -> None:
    assert lab.settings().mqtt.connect == "always"
    lab.tree["mqtt"]["connect"] = {"every": "6h", "wait": "90s"}
    connect = lab.settings().mqtt.connect
    assert isinstance(connect, Periodic)
    assert (connect.every, connect.wait) == (timedelta(hours=6), timedelta(seconds=90))
    assert lab.settings().mqtt.model_dump(mode="json")["connect"] == {"every": "6h", "wait": "90s"}


@given(st.integers(1, 3 * 86_400))
def test_durations_are_written_as_they_are_read(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    written = duration_text(duration)
    assert read_duration(written, timedelta(0), timedelta.max) == duration
    assert written[-1] == "d" or seconds % {"s": 60, "m": 3600, "h": 86_400}[written[-1]]


@given(st.from_regex(DURATION_PATTERN, fullmatch=True), st.integers(1, 4 * 86_400))
def test_durations_are_bounded(written: str, longest_s: int) -> None:
    shortest, longest = timedelta(seconds=1), timedelta(seconds=longest_s)
    factor = {"s": 1, "m": 60, "h": 3600, "d": 86_400}[written.strip()[-1]]
    if written.strip() == written and int(written[:-1]) * factor <= longest_s:
        assert read_duration(written, shortest, longest) <= longest
    else:
        with pytest.raises(ConfigError):
            read_duration(written, shortest, longest)


@given(st.text(max_size=8) | st.integers() | st.booleans() | st.none() | st.floats())
def test_what_is_no_duration_is_refused(value: object) -> None:
    if not (isinstance(value, str) and re.fullmatch(DURATION_PATTERN, value)):
        with pytest.raises(ConfigError, match="expected"):
            read_duration(value, timedelta(0), timedelta.max)


class LampSettings(BaseModel):
    """Settings of a protocol that only this test knows."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    pace_s: int = 5


def test_a_protocol_that_does_not_go_over_bluetooth_is_refused_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lamp = ProtocolKind("lamp", "LAMP", PROTOCOLS["rcp"].make_session, settings=LampSettings)
    monkeypatch.setitem(PROTOCOLS, "lamp", lamp)
    device = a_device(protocol="lamp")
    assert device.protocol_settings == LampSettings()
    with pytest.raises(ValidationError, match="which LAMP does not support"):
        a_device(protocol="lamp", link={"ble": "C0:FF:EE:00:00:01"})


def test_names_that_are_one_to_a_broker_with_dots_as_levels_are_warned_of(lab: Lab) -> None:
    lab.tree["mqtt"]["ota_topic"] = "{major}/{minor}/{app_id}"
    lab.tree["keys"]["pump"]["allow_shared_key"] = True
    lab.tree["devices"] = [
        lab.device("a", app_id="x", channel="stable"),
        lab.device("b", app_id="x.s", version="4.4.0"),
        lab.device("c", app_id="y.z"),
    ]
    (warning,) = [one for one in lab.warnings() if "RabbitMQ" in one]
    assert "4/3/x.s" in warning
    assert "4/3/x/s" in warning
    assert "app_id without dots" in warning
    del lab.tree["mqtt"]["ota_topic"]
    assert not any("RabbitMQ" in one for one in lab.warnings())
