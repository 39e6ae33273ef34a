import hashlib
import json
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest
from lab.containers import KEYS, PLAIN, VECTORS, gatewayctl
from lab.smp.recipes import Recipe, make_image

from gatewayd.cli.exits import CONFIGURATION, DONE, REFUSED, USAGE
from gatewayd.ota.container import Rom, build, open_container
from gatewayd.ota.keys import KeySet

KEY_FILE = VECTORS / "ota.key"
FIRST, SECOND = bytes(range(256)) * 20, b"second" * 1000


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two images and an empty file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rom0.bin").write_bytes(FIRST)
    (tmp_path / "rom=1.bin").write_bytes(SECOND)
    (tmp_path / "empty.bin").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "signed", "encrypted"),
    [
        (["--key", KEY_FILE], True, True),
        (["--key", KEY_FILE, "--no-sign"], False, True),
        (["--key", KEY_FILE, "--no-encrypt"], True, False),
        (["--key", KEY_FILE, "--no-encrypt", "--no-sign"], False, False),
        (["--no-encrypt", "--no-sign"], False, False),
    ],
)
def test_what_is_packed_is_read(here: Path, flags: list[str | Path], signed: bool, encrypted: bool) -> None:
    ran = gatewayctl("pack", *flags, "-o", "out.ota", "0x2000=rom0.bin", "2105344=rom=1.bin")
    assert ran.exit_code == DONE, ran.err
    container = open_container((here / "out.ota").read_bytes(), KEYS, allow_unsigned=not signed)
    assert [(rom.address, rom.content) for rom in container.roms] == [(0x2000, FIRST), (0x202000, SECOND)]
    assert (container.signed, container.encrypted) == (signed, encrypted)


def test_the_timestamp_is_the_time_in_utc(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            assert tz is UTC
            return cls(2026, 11, 23, 7, 30, 15, 419_999, tzinfo=tz)

    monkeypatch.setattr("gatewayd.cli.pack.datetime", Clock)
    gatewayctl("pack", "--key", KEY_FILE, "-o", "out.ota", "8192=rom0.bin")
    container = open_container((here / "out.ota").read_bytes(), KEYS, allow_unsigned=False)
    assert container.timestamp_ms == open_container(PLAIN, KEYS, allow_unsigned=True).timestamp_ms


def test_a_packed_container_opens_with_the_key_files_of_otatool(here: Path) -> None:
    gatewayctl("pack", "--key", KEY_FILE, "-o", "out.ota", "8192=rom0.bin")
    keys = KeySet((VECTORS / "decrypt.key.bin").read_bytes(), (VECTORS / "verify.key.bin").read_bytes())
    assert open_container((here / "out.ota").read_bytes(), keys, allow_unsigned=False).signed


def test_the_summary(here: Path) -> None:
    ran = gatewayctl("pack", "--key", KEY_FILE, "--no-encrypt", "-o", "out.ota", "0x2000=rom0.bin")
    size = (here / "out.ota").stat().st_size
    assert f"out.ota: {size} bytes, signed, not encrypted" in ran.out
    assert "0x00002000  5120 bytes  rom0.bin" in ran.out


def test_json(here: Path) -> None:
    said = json.loads(gatewayctl("pack", "--json", "--key", KEY_FILE, "-o", "out.ota", "0x2000=rom0.bin").out)
    packed = (here / "out.ota").read_bytes()
    assert (said["file"], said["size"]) == ("out.ota", len(packed))
    assert said["sha256"] == hashlib.sha256(packed).hexdigest()
    assert (said["signed"], said["encrypted"]) == (True, True)
    assert said["roms"] == [{"address": 0x2000, "size": 5120, "sha256": hashlib.sha256(FIRST).hexdigest()}]
    assert said["timestamp_ms"] == open_container(packed, KEYS, allow_unsigned=False).timestamp_ms


@pytest.mark.parametrize(
    ("args", "exit_code", "says"),
    [
        (["0x2000=rom0.bin"], USAGE, "--key"),
        (["--no-sign", "0x2000=rom0.bin"], USAGE, "--key"),
        (["--key", KEY_FILE], USAGE, "ADDRESS=FILE"),
        (["--key", KEY_FILE, "rom0.bin"], USAGE, "ADDRESS=FILE"),
        (["--key", KEY_FILE, "0x2000="], USAGE, "ADDRESS=FILE"),
        (["--key", KEY_FILE, "=rom0.bin"], USAGE, "ADDRESS=FILE"),
        (["--key", KEY_FILE, "0b1=rom0.bin"], USAGE, "ADDRESS=FILE"),
        (["--key", KEY_FILE, "2_000=rom0.bin"], USAGE, "ADDRESS=FILE"),
        (["--key", KEY_FILE, "0x100000000=rom0.bin"], USAGE, "above"),
        (["--key", KEY_FILE, "4294967296=rom0.bin"], USAGE, "above"),
        (["--key", KEY_FILE, "0x2000=rom0.bin", "8192=rom=1.bin"], USAGE, "0x2000 is given 2 times"),
        (["--key", KEY_FILE, "0x2000=empty.bin"], REFUSED, "empty.bin is empty"),
        (["--key", KEY_FILE, "0x2000=absent.bin"], REFUSED, "absent.bin"),
        (["--key", "absent.key", "0x2000=rom0.bin"], REFUSED, "absent.key"),
        (["--key", "rom0.bin", "0x2000=rom0.bin"], CONFIGURATION, "rom0.bin: not an OTA key"),
        (["--key", KEY_FILE, *(f"{address}=rom0.bin" for address in range(256))], USAGE, "255"),
    ],
)
def test_what_is_refused_leaves_the_old_container(
    here: Path, args: list[str | Path], exit_code: int, says: str
) -> None:
    (here / "out.ota").write_bytes(b"old")
    before = sorted(here.iterdir())
    ran = gatewayctl("pack", "-o", "out.ota", *args)
    assert ran.exit_code == exit_code
    assert says in ran.err
    assert (here / "out.ota").read_bytes() == b"old"
    assert sorted(here.iterdir()) == before


def test_an_input_is_not_overwritten(here: Path) -> None:
    ran = gatewayctl("pack", "--key", KEY_FILE, "-o", "./rom0.bin", "0x2000=rom0.bin")
    assert ran.exit_code == USAGE
    assert (here / "rom0.bin").read_bytes() == FIRST


def test_a_missing_directory_is_said(here: Path) -> None:
    ran = gatewayctl("pack", "--key", KEY_FILE, "-o", here / "nowhere" / "out.ota", "0x2000=rom0.bin")
    assert ran.exit_code == REFUSED
    assert "nowhere" in ran.err


def test_a_failed_write_leaves_the_old_container(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (here / "out.ota").write_bytes(b"old")
    before = sorted(here.iterdir())
    monkeypatch.setattr("os.fsync", full)
    ran = gatewayctl("pack", "--key", KEY_FILE, "-o", "out.ota", "0x2000=rom0.bin")
    assert ran.exit_code == REFUSED
    assert "No space left" in ran.err
    assert sorted(here.iterdir()) == before
    assert (here / "out.ota").read_bytes() == b"old"


def test_images_that_say_their_version_agree(here: Path) -> None:
    for name, version in (("a.bin", (1, 2, 4, 0)), ("b.bin", (1, 2, 4, 7)), ("c.bin", (1, 2, 5, 0))):
        (here / name).write_bytes(make_image(Recipe(version)))
    pack = ("pack", "--key", KEY_FILE, "-o", "out.ota")
    ran = gatewayctl(*pack, "0x0=a.bin", "0x8000=b.bin", "0x10000=rom0.bin")
    assert ran.exit_code == DONE, ran.err
    assert "a.bin, says that it is 1.2.4\n" in ran.out
    assert ran.out.endswith("rom0.bin\n"), "that one says nothing"
    roms = json.loads(gatewayctl(*pack, "--json", "0x0=a.bin", "1=rom0.bin").out)["roms"]
    assert [rom.get("own_version") for rom in roms] == ["1.2.4", None]
    before = (here / "out.ota").read_bytes()
    ran = gatewayctl(*pack, "0x0=a.bin", "0x8000=rom0.bin", "0x10000=c.bin")
    assert ran.exit_code == REFUSED
    assert "a.bin says that it is 1.2.4, c.bin that it is 1.2.5" in ran.err
    assert (here / "out.ota").read_bytes() == before


def test_a_damaged_image_of_mcuboot_draws_a_warning(here: Path) -> None:
    (here / "a.bin").write_bytes(make_image()[:-1])
    ran = gatewayctl("pack", "--key", KEY_FILE, "-o", "out.ota", "0x0=a.bin")
    assert ran.exit_code == DONE
    assert ran.err.startswith("warning: a.bin: the image has ")


SENT_BY = {
    "pack": ("pack", "--key", KEY_FILE, "-o", "out.ota", "0x2000={}"),
    "publish": ("publish", "--config", "config.yaml", "--app", "pump", "--version", "4.3.2", "{}"),
    "publish --plain": (
        *("publish", "--plain", "--config", "config.yaml", "--app", "pump", "--version", "4.3.2", "{}"),
    ),
}


@pytest.mark.parametrize("words", SENT_BY.values(), ids=SENT_BY)
def test_no_command_sends_a_key(here: Path, words: tuple[object, ...]) -> None:
    (here / "config.yaml").write_text("gateway: {id: barn}\nmqtt: {host: 127.0.0.1, port: 1}\ndevices: []\n")
    (here / "rom0.bin").write_bytes(KEY_FILE.read_bytes())
    ran = gatewayctl(*(str(word).format("rom0.bin") for word in words))
    assert ran.exit_code == REFUSED, ran
    assert "rom0.bin" in ran.err
    assert "key" in ran.err
    assert not (here / "out.ota").exists()


@pytest.mark.parametrize("words", SENT_BY.values(), ids=SENT_BY)
def test_no_command_sends_a_container_in_a_container(here: Path, words: tuple[object, ...]) -> None:
    (here / "config.yaml").write_text("gateway: {id: barn}\nmqtt: {host: 127.0.0.1, port: 1}\ndevices: []\n")
    is_packed = words[0] == "pack"  # then it would be the outer one that is made
    (here / "rom0.bin").write_bytes(PLAIN if is_packed else build([Rom(0x2000, PLAIN)], 1, None))
    ran = gatewayctl(*(str(word).format("rom0.bin") for word in words))
    assert ran.exit_code == REFUSED, ran
    assert "rom0.bin" in ran.err
    assert "container" in ran.err
    assert not (here / "out.ota").exists()


def test_what_is_no_flat_image_is_warned_of_when_it_is_packed(here: Path) -> None:
    (here / "rom0.bin").write_bytes(b"\x7fELF" + FIRST)
    ran = gatewayctl("pack", "--key", KEY_FILE, "-o", "out.ota", "0x2000=rom0.bin")
    assert ran.exit_code == DONE
    assert "objcopy -O binary" in ran.err
