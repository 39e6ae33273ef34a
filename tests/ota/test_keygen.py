import json
import os
import stat
from pathlib import Path

import pytest
import yaml
from lab.containers import gatewayctl

from gatewayd.cli.exits import DONE, REFUSED, USAGE
from gatewayd.ota.keys import KeySet, parse_ota_key

NAMES = ["decrypt.key.bin", "ota.key", "verify.key.bin"]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_three_files_that_belong_together(tmp_path: Path) -> None:
    assert gatewayctl("keygen", "-o", tmp_path / "ota.key").exit_code == DONE
    assert _names(tmp_path) == NAMES
    key = parse_ota_key((tmp_path / "ota.key").read_bytes())
    assert (tmp_path / "verify.key.bin").read_bytes() == key.verify_key
    assert (tmp_path / "decrypt.key.bin").read_bytes() == key.decrypt_key


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_only_the_verification_key_is_for_everybody(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        gatewayctl("keygen", "-o", tmp_path / "ota.key")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in NAMES] == [0o600, 0o600, 0o644]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_overwritten_and_nothing_left_behind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    ran = gatewayctl("keygen", "-o", tmp_path / "ota.key")
    assert ran.exit_code == REFUSED
    assert str(tmp_path / name) in ran.err
    assert _names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_full_disk_leaves_no_part_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_at_the_second(_descriptor: int) -> None:
        if len(_names(tmp_path)) > 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_at_the_second)
    ran = gatewayctl("keygen", "-o", tmp_path / "ota.key")
    assert ran.exit_code == REFUSED
    assert "No space left" in ran.err
    assert _names(tmp_path) == []


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "verify.key.bin").symlink_to(tmp_path / "elsewhere")
    assert gatewayctl("keygen", "-o", tmp_path / "ota.key").exit_code == REFUSED
    assert _names(tmp_path) == ["verify.key.bin"]


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    ran = gatewayctl("keygen", "-o", tmp_path / "nowhere" / "ota.key")
    assert ran.exit_code == REFUSED
    assert "nowhere" in ran.err


def test_the_key_must_not_take_the_name_of_a_derived_one(tmp_path: Path) -> None:
    assert gatewayctl("keygen", "-o", tmp_path / "decrypt.key.bin").exit_code == USAGE
    assert _names(tmp_path) == []


def test_what_is_printed_works_for_the_service_and_holds_no_secret(tmp_path: Path) -> None:
    """Not where the files were made: below /root, /home and /tmp the service sees nothing."""
    ran = gatewayctl("keygen", "-o", tmp_path / "ota.key")
    words = next(line for line in ran.out.splitlines() if line.startswith("install ")).split()
    *files, folder = words[5:]
    assert words[:5] == ["install", "-o", "gatewayd", "-m", "600"]
    snippet = yaml.safe_load(ran.out[ran.out.index("keys:") :])["keys"]["NAME"]
    assert list(snippet.values()) == [f"{folder}{name}" for name in files]
    assert folder == "/etc/gatewayd/"
    decrypt, verify = ((tmp_path / name).read_bytes() for name in files)
    keys = KeySet(decrypt, verify)
    assert keys.fingerprint in ran.out
    assert keys.decrypt_key is not None
    assert keys.decrypt_key.hex() not in ran.out


def test_json(tmp_path: Path) -> None:
    said = json.loads(gatewayctl("keygen", "--json", "-o", tmp_path / "ota.key").out)
    assert Path(said["ota_key"]) == tmp_path / "ota.key"
    assert Path(said["verify_key"]).read_bytes()
    assert Path(said["decrypt_key"]).read_bytes()
    assert said["fingerprint"] == parse_ota_key((tmp_path / "ota.key").read_bytes()).key_set().fingerprint
