"""`gatewayctl publish` against a real broker."""

import asyncio
import json
from pathlib import Path

import pytest
import structlog
from lab.broker_session import publisher
from lab.brokers import DEADLINE_S, PUBLISH, Mosquitto, ScriptedBroker, free_port
from lab.publishing import ADVANCED, SIGNED_ENCRYPTED, VECTORS, publish, refusal, write_config
from lab.smp.recipes import Recipe, make_image

from gatewayd.cli.exits import exit_code
from gatewayd.cli.publish import MAX_PACKET_BYTES
from gatewayd.ota.container import Rom, build, encrypt


@pytest.fixture
def config(tmp_path: Path, mosquitto: Mosquitto) -> Path:
    return write_config(tmp_path, mosquitto.port, ADVANCED)


def retained(port: int, topic: str) -> bytes:
    async def read() -> bytes:
        async with publisher(port) as reader, asyncio.timeout(DEADLINE_S):
            await reader.subscribe([topic], replay_retained=True)
            delivery = await reader.receive()
            assert delivery.message.retain
            return delivery.message.payload

    return asyncio.run(read())


def test_a_container_is_retained_after_its_patch_header(config: Path, mosquitto: Mosquitto) -> None:
    result = publish(config, SIGNED_ENCRYPTED, version="4.3.300")
    assert result.exit_code == 0, result
    content = SIGNED_ENCRYPTED.read_bytes()
    assert retained(mosquitto.port, "/a/pump/u/4.3") == b"\xac\x02" + content
    assert result.stdout == (
        f"/a/pump/u/4.3: version 4.3.300, {len(content) + 2} bytes, encrypted container;"
        f" retained by 127.0.0.1:{mosquitto.port}\n"
    )
    assert not result.stderr
    assert "as gatewayctl-" in mosquitto.log()
    assert "as gatewayd-barn" not in mosquitto.log(), "that would throw the gateway out"


@pytest.mark.parametrize(("letter", "suffix"), [("s", "/s"), ("u", "/u")])
def test_channels(config: Path, mosquitto: Mosquitto, letter: str, suffix: str) -> None:
    result = publish(config, "--channel", letter, "--patch-encoding", "byte", "--json", SIGNED_ENCRYPTED)
    assert result.exit_code == 0, result
    document = json.loads(result.stdout)
    assert document["topic"] == f"/a/pump/u/4.3{suffix}"
    assert document["version"] == "4.3.2"
    assert document["size"] == SIGNED_ENCRYPTED.stat().st_size + 1
    assert document["recognised"] == "encrypted container"
    assert "no device in" in document["warnings"][0], "pump-1 listens to channel none"
    assert retained(mosquitto.port, document["topic"])[0] == 2


def test_the_encoding_is_that_of_the_devices(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = write_config(tmp_path, mosquitto.port, ADVANCED + "\n    patch_encoding: byte")
    assert publish(config, SIGNED_ENCRYPTED, version="4.3.200").exit_code == 0
    assert retained(mosquitto.port, "/a/pump/u/4.3")[:1] == b"\xc8"
    warned = publish(config, "--force", "--patch-encoding", "varint", SIGNED_ENCRYPTED)
    assert "warning: pump-1 expects patch_encoding: byte, and this is varint" in warned.stderr
    assert refusal(publish(config, SIGNED_ENCRYPTED, version="4.3.256")).code == "patch_overflow"


def test_a_bare_image_needs_a_device_that_takes_it_or_a_word(tmp_path: Path, mosquitto: Mosquitto) -> None:
    image = tmp_path / "image.bin"
    image.write_bytes(b"\xe9" * 5000)
    refused = refusal(publish(write_config(tmp_path, mosquitto.port, ADVANCED), image))
    assert refused.code == "no_container"
    assert "--plain" in refused.hint
    standard = publish(write_config(tmp_path, mosquitto.port, "payload: standard"), image)
    assert (standard.exit_code, standard.stderr) == (0, "")
    assert "bare image" in standard.stdout
    plain = publish(write_config(tmp_path, mosquitto.port, ADVANCED), "--plain", "--force", image)
    assert plain.exit_code == 0
    assert "warning: pump-1 will refuse it (" in plain.stderr


def test_an_image_that_says_another_version_is_not_published(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = write_config(tmp_path, mosquitto.port, "protocol: smp")
    image = tmp_path / "zephyr.signed.bin"
    image.write_bytes(make_image(Recipe((4, 3, 2, 0))))
    assert publish(config, image, version="4.3.2").exit_code == 0
    refused = refusal(publish(config, image, version="4.3.3"))
    assert (refused.code, "for pump-1" in refused.message) == ("image_version_differs", True)
    assert retained(mosquitto.port, "/a/pump/u/4.3")[:1] == b"\x02"
    image.write_bytes(bytes(range(256)) * 2)
    assert refusal(publish(config, image, version="4.3.3")).code == "bad_image_header"


def test_an_image_is_refused_wherever_its_version_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(make_image(Recipe((4, 3, 2, 9))))
    roms = [Rom(0x2000, (tmp_path / "image").read_bytes())]
    (tmp_path / "container").write_bytes(build(roms, 1, None))
    hidden = encrypt(build(roms, 1, None), (VECTORS / "decrypt.key.bin").read_bytes())
    (tmp_path / "encrypted").write_bytes(hidden)
    message = "-o", tmp_path / "message"
    advanced = ADVANCED + "\n    allow_unsigned: true"
    cases = [
        ("image", "payload: standard", "image: the image itself says that it is 4.3.2"),
        ("container", advanced, "the image for 0x2000 in "),
        ("container", "protocol: smp\n    " + advanced, "the image for 0x2000 in "),
        ("encrypted", "protocol: smp\n    " + advanced, "pump-1 will refuse it (image_version_differs)"),
    ]
    for name, settings, said in cases:
        config = write_config(tmp_path, 1, settings)
        right = publish(config, *message, tmp_path / name, version="4.3.2")
        assert (right.exit_code, right.stderr) == (0, ""), name
        assert " that says it is 4.3.2; in " in right.stdout, name
        (tmp_path / "message").unlink()
        refused = refusal(publish(config, *message, tmp_path / name, version="4.3.3"))
        assert (refused.code, said in refused.message) == ("image_version_differs", True), refused.message
        assert not (tmp_path / "message").exists(), name
        assert publish(config, "--plain", *message, tmp_path / name, version="4.3.3").exit_code == 0
    for name in ("container", "encrypted"):
        told = publish(config, "--json", *message, tmp_path / name, version="4.3.2").stdout
        assert json.loads(told)["own_version"] == "4.3.2", name


def test_plain_does_not_hide_that_every_device_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(make_image(Recipe((4, 3, 2, 0))))
    config = write_config(tmp_path, 1, "protocol: smp")
    result = publish(config, "--plain", tmp_path / "image", version="4.3.3")
    assert refusal(result).code == "all_would_refuse"
    assert "pump-1 will refuse it (image_version_differs)" in result.stderr


def test_what_a_device_would_refuse_is_said(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = write_config(tmp_path, mosquitto.port, ADVANCED)
    unsigned = publish(config, "--force", VECTORS / "plain.ota")
    assert unsigned.exit_code == 0
    assert "warning: pump-1 will refuse it (unsigned)" in unsigned.stderr
    assert "unsigned container" in unsigned.stdout
    assert "signed container" in publish(config, VECTORS / "signed.ota").stdout
    standard = publish(
        write_config(tmp_path, mosquitto.port, "payload: standard"), "--force", SIGNED_ENCRYPTED
    )
    assert "would take the whole encrypted container for its image" in standard.stderr


def test_a_damaged_container_is_refused(config: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.ota"
    damaged.write_bytes((VECTORS / "plain.ota").read_bytes()[:-1])
    error = refusal(publish(config, damaged))
    assert str(damaged) in error.message
    assert exit_code(error) == 1
    damaged.write_bytes(b"")
    assert refusal(publish(config, damaged)).code == "empty_firmware"


def test_too_large_for_the_gateway_is_said(tmp_path: Path, mosquitto: Mosquitto) -> None:
    image = tmp_path / "image.bin"
    image.write_bytes(bytes(1024 * 1024))
    config = write_config(tmp_path, mosquitto.port, "payload: standard", extra=", max_message_mib: 1")
    result = publish(config, "--force", image)
    assert result.exit_code == 0
    assert "1048577 bytes are more than a gateway with mqtt.max_message_mib: 1" in result.stderr


@pytest.mark.parametrize("fits", [True, False])
async def test_no_more_is_sent_than_a_packet_holds(
    tmp_path: Path, scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch, *, fits: bool
) -> None:
    assert MAX_PACKET_BYTES == 128**4 - 1, "four digits of seven bits"
    limit, around = 5000, len("/a/pump/u/4.3") + 5
    monkeypatch.setattr("gatewayd.cli.publish.MAX_PACKET_BYTES", limit)
    image = tmp_path / "image.bin"
    image.write_bytes(bytes(limit - around - (1 if fits else 0)))  # and one byte of patch version
    config = write_config(tmp_path, scripted.port, "payload: standard")
    result = await asyncio.to_thread(publish, config, image)
    if fits:
        assert result.exit_code == 0
        assert [len(got.body) for got in scripted.all(PUBLISH)] == [limit]
    else:
        assert refusal(result).code == "too_large"
        assert f"one MQTT message on /a/pump/u/4.3 holds {limit - around}" in str(refusal(result))
        assert not scripted.peers


def test_no_broker(tmp_path: Path) -> None:
    port = free_port()
    error = refusal(publish(write_config(tmp_path, port, ADVANCED), SIGNED_ENCRYPTED))
    assert (error.code, exit_code(error)) == ("broker_unreachable", 1)
    assert f"127.0.0.1:{port} cannot be reached" in str(error)


def test_the_broker_says_no(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read #\n")
    with Mosquitto(tmp_path / "m", f"acl_file {rules}") as mosquitto:
        error = refusal(publish(write_config(tmp_path, mosquitto.port, ADVANCED), SIGNED_ENCRYPTED))
    assert error.code == "publish_refused"


@pytest.mark.parametrize(
    ("version", "app"), [("4.3", "pump"), ("4.3.x", "pump"), ("4.3.1", "pu/mp"), ("4.3.1", "+")]
)
def test_usage(config: Path, version: str, app: str) -> None:
    assert publish(config, SIGNED_ENCRYPTED, version=version, app=app).exit_code == 2


def test_a_file_that_is_not_there(config: Path, tmp_path: Path) -> None:
    assert publish(config, tmp_path / "nothing").exit_code == 2


def test_nothing_is_logged(config: Path) -> None:
    with structlog.testing.capture_logs() as log:
        publish(config, SIGNED_ENCRYPTED)
    assert not log


def test_a_message_can_be_written_to_a_file_instead(tmp_path: Path) -> None:
    config = write_config(tmp_path, free_port(), ADVANCED)  # where no broker is
    result = publish(config, "-o", tmp_path / "message", SIGNED_ENCRYPTED, version="4.3.300")
    assert result.exit_code == 0, result
    assert (tmp_path / "message").read_bytes() == b"\xac\x02" + SIGNED_ENCRYPTED.read_bytes()
    assert result.stdout.endswith(f"encrypted container; in {tmp_path}/message\n")
