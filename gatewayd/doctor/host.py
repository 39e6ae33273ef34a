"""Checks of this machine: clock, state directory, disk, database, SQLite."""

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gatewayd import __version__
from gatewayd.config import Gateway
from gatewayd.doctor.account import ENTER, WRITE, Account
from gatewayd.doctor.finding import Finding, failure, ok, warning
from gatewayd.store.lock import LockHolder, held
from gatewayd.store.quarantine import WHY

MIB = 1024 * 1024
# No clock can be right that is before this version's release.
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
# A spool needs a few files; a file system this short of inodes will run out soon.
LEAST_INODES = 1000
# Before this version, a WAL that two connections write to can be corrupted.
SQLITE_WITHOUT_WAL_BUG = (3, 51, 3)
_WHY = "(log times and TLS certificates need the right time)"
_COMMAND_LIMIT_S = 5.0


def ask_system(*command: str) -> str | None:
    """Return the output of a system tool; None if it is missing, fails or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        words = [program, *command[1:]]
        done = subprocess.run(  # noqa: S603 - fixed words
            words, capture_output=True, text=True, timeout=_COMMAND_LIMIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


# -- the clock


def examine_clock() -> Finding:
    """Check the clock, and whether it is synchronised."""
    answer = ask_system("timedatectl", "show", "-p", "NTPSynchronized", "--value")
    return judge_clock(datetime.now(UTC), {"yes": True, "no": False}.get(answer or ""))


def judge_clock(now: datetime, is_synchronised: bool | None) -> Finding:
    """Judge whether the clock can be right. `is_synchronised`: None if unknown."""
    shown = f"{now:%Y-%m-%d %H:%M} UTC"
    if now < RELEASED:
        return failure(
            "clock",
            f"it says {shown}, which is before the release of gatewayd {__version__} {_WHY}",
            code="clock_wrong",
            hint="run `timedatectl set-ntp true`, or fit a battery-backed clock",
        )
    if is_synchronised is False:
        return warning(
            "clock",
            f"it says {shown} and is not synchronised {_WHY}",
            code="clock_not_synchronised",
            hint="run `timedatectl set-ntp true`; synchronising takes some minutes after boot",
        )
    return ok("clock", f"{shown}, synchronised" if is_synchronised else f"{shown} is plausible")


# -- the state directory


@dataclass(frozen=True, slots=True)
class Disk:
    """Free space for the daemon; `free_inodes` is None on file systems that do not count them."""

    free_bytes: int
    free_inodes: int | None


def examine_state_dir(path: Path, account: Account, max_message_mib: int) -> list[Finding]:
    """Check the directory, or where it will be created, and its disk."""
    place = path
    try:
        while not place.exists():  # the root does
            place = place.parent
        status = place.stat()
    except PermissionError as error:
        text = f"{error.filename} is not accessible to the user running the doctor"
        return [warning("state_dir", text, code="state_dir_unusable", hint="run the doctor as root")]
    obstacle = account.obstacle(place, WRITE | ENTER)
    found = [judge_directory(path, status, obstacle, is_missing=place != path, account=account)]
    counts = os.statvfs(place)
    disk = Disk(counts.f_bavail * counts.f_frsize, counts.f_favail if counts.f_files else None)
    return [*found, judge_disk(path, disk, max_message_mib)]


def judge_directory(
    path: Path, status: os.stat_result, obstacle: str, *, is_missing: bool, account: Account
) -> Finding:
    """Judge whether the daemon can store its state. `status`: of `path` or its nearest existing parent."""
    subject = "state_dir"
    if not stat.S_ISDIR(status.st_mode):
        hint = "choose another gateway.state_dir"
        return failure(subject, f"{path} is not a directory", code="state_dir_unusable", hint=hint)
    if obstacle:
        why = f"{path} does not exist, and {obstacle}" if is_missing else obstacle
        hint = f"`install -d -o {account.name} -m 700 {path}`"
        return failure(subject, why, code="state_dir_unusable", hint=hint)
    if is_missing:
        return ok(subject, f"{path} does not exist yet; gatewayd will create it")
    return ok(subject, f"{path} is writable for {account.name}")


def judge_disk(path: Path, disk: Disk, max_message_mib: int) -> Finding:
    """Judge whether there is room for twice the largest message."""
    free, needed = disk.free_bytes // MIB, 2 * max_message_mib
    hint = "free some space: messages that do not fit are not acknowledged, and are sent again"
    if free < needed:
        text = f"{free} MiB are free at {path}; up to {needed} MiB (twice mqtt.max_message_mib) may be needed"
        return failure("disk", text, code="disk_full", hint=hint)
    if disk.free_inodes is not None and disk.free_inodes < LEAST_INODES:
        text = f"the file system of {path} has room for only {disk.free_inodes} more files"
        return warning("disk", text, code="disk_full", hint="remove files there")
    return ok("disk", f"{free} MiB are free at {path}; incoming messages need at most {needed}")


# -- the database


def examine_database(gateway: Gateway, daemon: LockHolder) -> Finding:
    """Check a copy of the database; never while the daemon runs, which cannot start during the copy."""
    path = gateway.state_dir / "gatewayd.db"
    if daemon.runs is not False:
        use = "is in use" if daemon.runs else "may be in use"
        return ok("database", f"not checked, because it {use} by gatewayd")
    try:
        if not path.exists():
            return ok("database", f"{path} does not exist yet; gatewayd will create it")
        with tempfile.TemporaryDirectory() as folder:
            lock = gateway.state_dir / "lock"
            with held(lock) if lock.exists() else contextlib.nullcontext():
                # Never open the original: SQLite would leave files beside it, owned by this user.
                for suffix in ("", "-wal"):
                    if (file := path.with_name(path.name + suffix)).exists():
                        shutil.copyfile(file, Path(folder) / file.name)
            return judge_database(path, _damage(Path(folder) / path.name))
    except BlockingIOError:
        return ok("database", "not checked, because gatewayd has just started")
    except OSError as error:
        text = f"{error.filename or path} cannot be read: {error.strerror}"
        hint = "run the doctor as root, or as the user that gatewayd runs as"
        return warning("database", text, code="storage_failed", hint=hint)


def judge_database(path: Path, damage: str) -> Finding:
    """Judge whether the database is intact."""
    if damage:
        text = f"{path} is damaged: {damage}"
        hint = "at its next start gatewayd quarantines it and creates a new one; check the disk"
        return failure("database", text, code="database_damaged", hint=hint)
    return ok("database", f"{path} is intact")


def _damage(copy: Path) -> str:
    connection = sqlite3.connect(copy)
    try:
        answer: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        return str(error)
    finally:
        connection.close()
    return "" if answer == "ok" else answer


def examine_quarantine(state_dir: Path) -> list[Finding]:
    """Report what was damaged, newest first, until somebody deletes it."""
    found = []
    try:
        for folder in sorted((state_dir / "quarantine").iterdir(), reverse=True):
            note = folder / WHY
            why = note.read_text(errors="replace").strip() if note.exists() else "files were damaged"
            text = f"{why} (the remains are in {folder})"
            hint = "check `dmesg` for disk errors; delete that folder to clear this warning"
            found.append(warning("quarantine", text, code="state_damaged", hint=hint))
    except FileNotFoundError:
        return []
    except OSError as error:
        text = f"{error.filename} cannot be read: {error.strerror}"
        hint = "run the doctor as root, or as the user that gatewayd runs as"
        return [warning("quarantine", text, code="storage_failed", hint=hint)]
    return found


def examine_sqlite() -> Finding:
    """Check the version of the SQLite library."""
    return judge_sqlite(sqlite3.sqlite_version_info)


def judge_sqlite(version: tuple[int, ...]) -> Finding:
    """Judge the version of the library."""
    shown = ".".join(map(str, version))
    if version < SQLITE_WITHOUT_WAL_BUG:
        return ok("SQLite", f"{shown}; its WAL bug needs two connections, and gatewayd uses one")
    return ok("SQLite", shown)
