"""Messages on disk: whole or not there, and never twice."""

import contextlib
import errno
import hashlib
import os
from pathlib import Path
from unittest import mock

import pytest

from gatewayd.errors import HostError
from gatewayd.store.spool import Spool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_comes_back(folder: Path) -> None:
    sha256, is_new = Spool(folder).write(b"message")
    assert (sha256, is_new) == (hashlib.sha256(b"message").hexdigest(), True)
    assert Spool(folder).read(sha256) == b"message"
    assert files(folder) == {sha256}


def test_the_same_message_is_not_written_again(folder: Path) -> None:
    spool = Spool(folder)
    sha256, _ = spool.write(b"message")
    before = (folder / sha256).stat().st_ino
    assert spool.write(b"message") == (sha256, False)
    assert (folder / sha256).stat().st_ino == before


def test_a_file_has_its_name_only_once_it_is_synced(folder: Path) -> None:
    spool, steps = Spool(folder), []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(handle: int) -> None:
        steps.append("sync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "sync file")  # noqa: PTH112 - a descriptor
        real_fsync(handle)

    def rename(path: Path, target: Path) -> Path:
        steps.append("name")
        return real_rename(path, target)

    with mock.patch("os.fsync", fsync), mock.patch.object(Path, "rename", rename):
        spool.write(b"message")
        assert steps == ["sync file", "name", "sync folder"]
        steps.clear()
        spool.write(b"message")  # a crash may have come between the name and the last step
        assert steps == ["sync folder"]


def test_a_failed_write_leaves_nothing(folder: Path) -> None:
    spool = Spool(folder)
    with (
        mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OSError, match="space"),
    ):
        spool.write(b"message")
    assert files(folder) == set()


def test_what_a_crash_left_half_written_is_swept(folder: Path) -> None:
    spool = Spool(folder)
    kept, _ = spool.write(b"kept")
    orphan, _ = spool.write(b"orphan")
    (folder / "tmp" / "tmpabc").write_bytes(b"hal")
    (folder / "README").write_text("not ours")
    assert spool.keep_only({kept}) == [orphan]
    assert files(folder) == {kept, "README"}


@pytest.mark.parametrize("content", [b"", b"messagE", b"message "])
def test_a_damaged_file_is_not_handed_out_and_is_repaired_by_writing(folder: Path, content: bytes) -> None:
    spool = Spool(folder)
    sha256, _ = spool.write(b"message")
    (folder / sha256).write_bytes(content)
    with pytest.raises(HostError, match="did not hold the bytes") as caught:
        spool.read(sha256)
    assert caught.value.code == "spool_damaged"
    assert spool.write(b"message") == (sha256, True)
    assert spool.read(sha256) == b"message"


def test_a_file_that_is_gone_or_cannot_be_read(folder: Path) -> None:
    spool = Spool(folder)
    with pytest.raises(HostError, match="is gone") as caught:
        spool.read("0" * 64)
    assert caught.value.code == "spool_damaged"
    sha256, _ = spool.write(b"message")
    with (
        mock.patch.object(Path, "read_bytes", side_effect=OSError(5, "Input/output error")),
        pytest.raises(HostError, match="cannot be read: Input/output error") as caught,
    ):
        spool.read(sha256)
    assert caught.value.code == "spool_damaged"


def test_a_directory_in_the_place_of_a_message_is_moved_away(folder: Path) -> None:
    spool = Spool(folder)
    sha256, _ = spool.write(b"message")
    for repair in (spool.read, lambda _: spool.write(b"message"), lambda _: spool.keep_only(())):
        (folder / sha256).unlink(missing_ok=True)
        (folder / sha256 / "within").mkdir(parents=True)
        with contextlib.suppress(HostError):
            repair(sha256)
        assert not (folder / sha256).is_dir()
        assert spool.write(b"message")[0] == sha256
        assert spool.read(sha256) == b"message"
    assert len(list((folder.parent / "quarantine").glob(f"*/{sha256}/within"))) == 3


def test_a_message_that_another_user_owns_is_repaired_by_writing(folder: Path) -> None:
    spool = Spool(folder)
    sha256, _ = spool.write(b"message")
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == folder / sha256:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    with mock.patch.object(Path, "read_bytes", read_bytes):
        assert spool.write(b"message") == (sha256, True)
    assert spool.read(sha256) == b"message"
    assert len(list((folder.parent / "quarantine").glob(f"*/{sha256}"))) == 1
