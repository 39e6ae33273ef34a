"""The bootloader starts one whole image, whenever the device dies."""

import hashlib
import json
from pathlib import Path

import pytest

from gatewayd.errors import HostError
from gatewayd.protocol.session import ImageState
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.file_store import DirectoryFileStore, FileStore, MemoryFileStore
from gatewayd.simulator.profile import DeviceProfile

PROFILE = DeviceProfile(app_id="pump", version="1.0.0", slot_address=0x8000)
SHA = hashlib.sha256(b"new").digest()


class Killed(Exception):  # noqa: N818 - an event
    """The process died."""


class MortalFileStore(MemoryFileStore):
    """Dies before its n-th change."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 10**9

    def write(self, name: str, content: bytes) -> None:
        self._live()
        super().write(name, content)

    def move(self, source: str, target: str) -> None:
        self._live()
        super().move(source, target)

    def remove(self, name: str) -> None:
        self._live()
        super().remove(name)

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


def test_a_new_device_runs_the_factory_image() -> None:
    bootloader = Bootloader(MemoryFileStore(), PROFILE)
    assert bootloader.image is None
    assert bootloader.version == "1.0.0"
    assert bootloader.image_state(None) is ImageState.CONFIRMED


def test_what_device_json_says_wins_over_the_options(tmp_path: Path) -> None:
    Bootloader(DirectoryFileStore(tmp_path), PROFILE)
    other = DeviceProfile(app_id="fan", version="9.9.9", slot_address=1, window=123)
    again = Bootloader(DirectoryFileStore(tmp_path), other)
    assert (again.profile.app_id, again.version, again.profile.slot_address) == ("pump", "1.0.0", 0x8000)
    assert again.profile.window == 123


def test_an_active_image_in_a_new_directory_is_what_it_runs(tmp_path: Path) -> None:
    (tmp_path / "active.bin").write_bytes(b"mine")
    assert Bootloader(DirectoryFileStore(tmp_path), PROFILE).image == b"mine"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"version": 1}'])
def test_a_broken_device_json_is_named(content: bytes) -> None:
    files = MemoryFileStore()
    files.write("device.json", content)
    with pytest.raises(HostError) as refused:
        Bootloader(files, PROFILE)
    assert refused.value.code == "bad_device_state"


def test_a_trial_that_is_confirmed_stays() -> None:
    bootloader = Bootloader(MemoryFileStore(), PROFILE)
    bootloader.set_flag(b"new", "1.0.1", 60)
    bootloader.boot(1000.0)
    assert (bootloader.image, bootloader.version) == (b"new", "1.0.1")
    assert bootloader.image_state(SHA) is ImageState.ON_TRIAL
    bootloader.boot(1059.0)
    assert bootloader.image == b"new"
    bootloader.confirm()
    bootloader.boot(2000.0)
    assert (bootloader.image, bootloader.image_state(SHA)) == (b"new", ImageState.CONFIRMED)


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_trial_that_is_not_confirmed_is_given_up_also_while_nothing_runs(old: bytes | None) -> None:
    files: FileStore = MemoryFileStore()
    if old:
        files.write("active.bin", old)
    first = Bootloader(files, PROFILE)
    first.set_flag(b"new", "1.0.1", 60)
    first.boot(1000.0)
    later = Bootloader(files, PROFILE)  # the process was dead from here
    later.boot(1060.0)
    assert (later.image, later.version) == (old, "1.0.0")
    assert later.image_state(SHA) is ImageState.REVERTED
    assert later.image_state(bytes(32)) is ImageState.CONFIRMED  # of another image nothing became


def test_a_reverted_image_is_forgotten_when_another_is_started() -> None:
    bootloader = Bootloader(MemoryFileStore(), PROFILE)
    bootloader.set_flag(b"new", "1.0.1", 0)
    bootloader.boot(0.0)
    bootloader.boot(0.0)
    assert bootloader.image_state(SHA) is ImageState.REVERTED
    bootloader.set_flag(b"newer", "1.0.2", 60)
    bootloader.boot(0.0)
    assert bootloader.image_state(SHA) is ImageState.ON_TRIAL


def test_without_trial_boot_a_new_image_is_confirmed_at_once() -> None:
    bootloader = Bootloader(
        MemoryFileStore(), DeviceProfile(app_id="pump", version="1.0.0", can_revert=False)
    )
    bootloader.set_flag(b"new", "1.0.1", 0)
    bootloader.boot(0.0)
    bootloader.boot(9999.0)
    assert (bootloader.image, bootloader.image_state(SHA)) == (b"new", ImageState.CONFIRMED)


def test_killed_before_any_change_it_runs_the_old_or_the_new_whole() -> None:
    cuts = 0
    while _die_and_recover(cuts):
        cuts += 1
    assert cuts >= 8


def _die_and_recover(changes: int) -> bool:
    """Whether `changes` changes were too few to get through."""
    files = MortalFileStore()
    files.write("active.bin", b"old")
    files.left = changes
    try:
        bootloader = Bootloader(files, PROFILE)
        bootloader.set_flag(b"new", "1.0.1", 60)
        bootloader.boot(0.0)
        bootloader.boot(60.0)
    except Killed:
        died = True
    else:
        died = False
    files.left = 10**9
    after = Bootloader(files, PROFILE)
    after.boot(0.0)
    assert (after.image, after.version) in ((b"old", "1.0.0"), (b"new", "1.0.1"))
    assert json.loads(files.files["device.json"])["version"] == after.version
    after.boot(60.0)
    assert (after.image, after.version) == (b"old", "1.0.0")
    return died
