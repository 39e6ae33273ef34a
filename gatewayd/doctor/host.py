"""This machine: the clock, the state directory with its disk and database, SQLite."""

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
# This version did not exist before.
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
# A spool has some files; what runs short of this runs out soon.
LEAST_INODES = 1000
# Before it, a WAL that two connections write to can be corrupted.
SQLITE_WITHOUT_WAL_BUG = (3, 51, 3)
_WHY = "(log times and TLS certificates need the right time)"
_COMMAND_LIMIT_S = 5.0


def ask_system(*command: str) -> str | None:
    """Return what a system's tool prints; None where it is not there, fails or hangs."""
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
    """Look at the clock, and at whether anything sets it."""
    answer = ask_system("timedatectl", "show", "-p", "NTPSynchronized", "--value")
    return judge_clock(datetime.now(UTC), {"yes": True, "no": False}.get(answer or ""))


def judge_clock(now: datetime, is_synchronised: bool | None) -> Finding:
    """Say whether the clock can be right. `is_synchronised` is None where nobody says so."""
    shown = f"{now:%Y-%m-%d %H:%M} UTC"
    if now < RELEASED:
        return failure(
            "clock",
            f"it says {shown}, which was before gatewayd {__version__} {_WHY}",
            code="clock_wrong",
            hint="`timedatectl set-ntp true`, or a battery for the clock",
        )
    if is_synchronised is False:
        return warning(
            "clock",
            f"it says {shown} and is not synchronised {_WHY}",
            code="clock_not_synchronised",
            hint="`timedatectl set-ntp true`; it takes some minutes after the start",
        )
    return ok("clock", f"{shown}, synchronised" if is_synchronised else f"{shown} is plausible")


# -- the state directory


@dataclass(frozen=True, slots=True)
class Disk:
    """What is free for the daemon; `inodes` is None on file systems that do not count them."""

    free_bytes: int
    free_inodes: int | None


def examine_state_dir(path: Path, account: Account, max_message_mib: int) -> list[Finding]:
    """Look at the directory, or where it is to be made, and at its disk."""
    place = path
    try:
        while not place.exists():  # the root does
            place = place.parent
        status = place.stat()
    except PermissionError as error:
        text = f"{error.filename} is closed to whoever runs the doctor"
        return [warning("state_dir", text, code="state_dir_unusable", hint="run the doctor as root")]
    obstacle = account.obstacle(place, WRITE | ENTER)
    found = [judge_directory(path, status, obstacle, is_missing=place != path, account=account)]
    counts = os.statvfs(place)
    disk = Disk(counts.f_bavail * counts.f_frsize, counts.f_favail if counts.f_files else None)
    return [*found, judge_disk(path, disk, max_message_mib)]


def judge_directory(
    path: Path, status: os.stat_result, obstacle: str, *, is_missing: bool, account: Account
) -> Finding:
    """Say whether the daemon can keep its state. `status` is of `path`, or of what is there of it."""
    subject = "state_dir"
    if not stat.S_ISDIR(status.st_mode):
        hint = "choose another gateway.state_dir"
        return failure(subject, f"{path} is no directory", code="state_dir_unusable", hint=hint)
    if obstacle:
        why = f"{path} does not exist, and {obstacle}" if is_missing else obstacle
        hint = f"`install -d -o {account.name} -m 700 {path}`"
        return failure(subject, why, code="state_dir_unusable", hint=hint)
    if is_missing:
        return ok(subject, f"{path} does not exist yet; gatewayd makes it")
    return ok(subject, f"{path} is writable for {account.name}")


def judge_disk(path: Path, disk: Disk, max_message_mib: int) -> Finding:
    """Say whether there is room for twice the largest message."""
    free, needed = disk.free_bytes // MIB, 2 * max_message_mib
    hint = "make room: what does not fit is not acknowledged, and comes again"
    if free < needed:
        text = f"{free} MiB are free at {path}; twice mqtt.max_message_mib, {needed} MiB, may be needed"
        return failure("disk", text, code="disk_full", hint=hint)
    if disk.free_inodes is not None and disk.free_inodes < LEAST_INODES:
        text = f"the file system of {path} has room for {disk.free_inodes} more files only"
        return warning("disk", text, code="disk_full", hint="remove files there")
    return ok("disk", f"{free} MiB are free at {path}, {needed} needed at most for messages coming in")


# -- the database


def examine_database(gateway: Gateway, daemon: LockHolder) -> Finding:
    """Check a copy of the database. Not while the daemon runs, nor the other way round."""
    path = gateway.state_dir / "gatewayd.db"
    if daemon.runs is not False:
        use = "is in use" if daemon.runs else "may be in use"
        return ok("database", f"it {use} by gatewayd, and so not looked into")
    try:
        if not path.exists():
            return ok("database", f"{path} does not exist yet; gatewayd makes it")
        with tempfile.TemporaryDirectory() as folder:
            lock = gateway.state_dir / "lock"
            with held(lock) if lock.exists() else contextlib.nullcontext():
                # Never the file itself: SQLite would leave files of ours beside it.
                for suffix in ("", "-wal"):
                    if (file := path.with_name(path.name + suffix)).exists():
                        shutil.copyfile(file, Path(folder) / file.name)
            return judge_database(path, _damage(Path(folder) / path.name))
    except BlockingIOError:
        return ok("database", "gatewayd has just started, so it is not looked into")
    except OSError as error:
        text = f"{error.filename or path} cannot be read: {error.strerror}"
        hint = "run the doctor as root, or as the user that gatewayd runs as"
        return warning("database", text, code="storage_failed", hint=hint)


def judge_database(path: Path, damage: str) -> Finding:
    """Say whether the database is whole."""
    if damage:
        text = f"{path} is damaged: {damage}"
        hint = "gatewayd puts it into quarantine when it starts, and begins a new one; look at the disk"
        return failure("database", text, code="database_damaged", hint=hint)
    return ok("database", f"{path} is whole")


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
    """Tell of what was damaged, newest first, until a person who has read it deletes it."""
    found = []
    try:
        for folder in sorted((state_dir / "quarantine").iterdir(), reverse=True):
            note = folder / WHY
            why = note.read_text(errors="replace").strip() if note.exists() else "files were damaged"
            text = f"{why} (what is left of it is in {folder})"
            hint = "look at the disk with `dmesg`; when you have read this, delete that folder"
            found.append(warning("quarantine", text, code="state_damaged", hint=hint))
    except FileNotFoundError:
        return []
    except OSError as error:
        text = f"{error.filename} cannot be read: {error.strerror}"
        hint = "run the doctor as root, or as the user that gatewayd runs as"
        return [warning("quarantine", text, code="storage_failed", hint=hint)]
    return found


def examine_sqlite() -> Finding:
    """Look at the library."""
    return judge_sqlite(sqlite3.sqlite_version_info)


def judge_sqlite(version: tuple[int, ...]) -> Finding:
    """Say what the library's version means."""
    shown = ".".join(map(str, version))
    if version < SQLITE_WITHOUT_WAL_BUG:
        return ok("SQLite", f"{shown}; its WAL bug needs two connections, and gatewayd uses one")
    return ok("SQLite", shown)
