"""The daemon on a disk of 4 MiB that fills up, and on one that turns read-only."""

import json
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab.desk import Desk, desk
from lab.farm import whole_lines
from lab.small_disk import SmallDisk

from gatewayd.jobs.model import CreateJob
from gatewayd.jobs.transitions import JobState
from gatewayd.store.store import Store

IMAGE = random.Random(7).randbytes(600_000)


@pytest.fixture(name="whole")
def _whole(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as whole:
        yield whole


def log_has(whole: Desk, code: str) -> bool:
    lines = [line for line in whole_lines(whole.log()) if line.startswith("{")]
    return any(json.loads(line).get("code") == code for line in lines)


def is_acknowledged(whole: Desk) -> bool:
    """Whether the daemon acknowledged what was published, as the broker tells it."""
    _, published, since = whole.broker.log().partition("pump/u/4.3'")
    assert published, "nothing was published"
    return "Received PUBACK from gatewayd-barn" in since


@contextmanager
def failing(whole: Desk, injection: str) -> Iterator[None]:
    """Fail calls at the daemon's database, meanwhile."""
    assert whole.gateway.process is not None
    pid = whole.gateway.process.pid
    state, log = whole.folder / "state", whole.folder / "strace"
    files = [word for name in ("gatewayd.db", "gatewayd.db-wal") for word in ("-P", str(state / name))]
    options = ["-qq", "-f", "-p", str(pid), "-o", str(log), "-e", f"inject={injection}"]
    process = subprocess.Popen(["strace", *options, *files], stderr=subprocess.DEVNULL)
    threads = Path(f"/proc/{pid}/task")

    def status(thread: Path) -> str:
        try:
            return (thread / "status").read_text()
        except OSError:  # it has ended meanwhile
            return traced

    try:
        traced = f"TracerPid:\t{process.pid}\n"
        whole.until(lambda: all(traced in status(thread) for thread in threads.iterdir()), "strace")
        yield
    finally:
        process.terminate()
        process.wait()
    assert "(INJECTED)" in log.read_text()


def test_what_cannot_be_stored_is_not_acknowledged_and_comes_again(whole: Desk) -> None:
    whole.configure(whole.device("pump-1").config())
    disk = SmallDisk(whole)
    disk.start()
    whole.until(lambda: whole.views()["pump-1"].state == "idle", "pump-1 is known")
    with disk.filled():
        whole.publish("pump", "4.3.2", IMAGE)
        whole.until(lambda: log_has(whole, "disk_full"), "it says that the disk is full")
        assert whole.json("devices", "devices")["trouble"]["code"] == "disk_full"
        assert "gatewayd cannot store anything: " in whole.good("devices")
        assert not is_acknowledged(whole)
    view = whole.until_state("pump-1", "succeeded")
    assert (view.installed_version, whole.devices["pump-1"].active) == ("4.3.2", IMAGE)
    whole.until(lambda: is_acknowledged(whole), "the acknowledgement")
    assert whole.json("devices", "devices")["trouble"] is None
    assert whole.gateway.process is not None
    assert whole.gateway.process.poll() is None  # it never ended


def test_a_disk_that_gives_errors_is_waited_for(whole: Desk) -> None:
    whole.configure(whole.device("pump-1").config())
    whole.start()
    whole.until(lambda: whole.views()["pump-1"].state == "idle", "pump-1 is known")
    with failing(whole, "pwrite64:error=EIO"):
        whole.publish("pump", "4.3.2", IMAGE)
        whole.until(lambda: log_has(whole, "disk_failing"), "it says that the disk fails")
        assert whole.json("devices", "devices")["trouble"]["code"] == "disk_failing"
        assert not is_acknowledged(whole)
    whole.until_state("pump-1", "succeeded")
    assert whole.devices["pump-1"].active == IMAGE
    whole.until(lambda: is_acknowledged(whole), "the acknowledgement")
    assert not (whole.folder / "state" / "quarantine").exists()  # nothing was taken for damage


def test_what_is_under_way_when_the_disk_fills_is_finished_with_the_reserve(whole: Desk) -> None:
    whole.configure(whole.device("pump-1", rate=120_000).config())
    disk = SmallDisk(whole)
    disk.start()
    assert (disk.root / "ballast").stat().st_blocks * 512 == 1024 * 1024
    whole.publish("pump", "4.3.2", IMAGE)
    whole.until_state("pump-1", "transferring")
    with disk.filled():
        whole.until_state("pump-1", "succeeded")
        assert not (disk.root / "ballast").exists()
        assert whole.devices["pump-1"].active == IMAGE


@pytest.mark.parametrize(
    ("options", "mended", "code"),
    [("size=64k", "size=8m", "disk_full"), ("size=8m,ro", "rw", "disk_read_only")],
)
def test_a_disk_that_cannot_be_written_at_the_start_is_waited_for(
    whole: Desk, options: str, mended: str, code: str
) -> None:
    whole.configure(whole.device("pump-1").config())
    disk = SmallDisk(whole, options)
    disk.launch()
    whole.until(lambda: log_has(whole, code), f"it says {code}")
    assert "waiting for the disk" in whole.log()
    disk.remount(mended)
    whole.until(whole.answers, "the daemon answers")
    whole.publish("pump", "4.3.2", IMAGE[:50_000])
    whole.until_state("pump-1", "succeeded")


@pytest.mark.parametrize("free_kib", [0, 40])
async def test_a_start_in_mid_job_on_a_full_disk_waits_and_then_goes_on(whole: Desk, free_kib: int) -> None:
    """What was under way is to be noted at the start; 40 KiB are room for SQLite to open, not for that."""
    whole.configure(whole.device("pump-1").config())
    left = whole.folder / "left"
    async with Store(left) as store:
        command = CreateJob("pump-1", 1, "0" * 64, "4.3.1", "4.3.2", JobState.QUEUED, None, "")
        job = await store.run(lambda db: db.create_job(command))
        assert job is not None
        await store.run(lambda db: db.move_job(job.id, JobState.TRANSFERRING))
    (left / "ballast").unlink()
    disk = SmallDisk(whole)
    room = f"truncate -s -{free_kib}K state/filler" if free_kib else "true"
    disk.launch(f"cp -r left/. state && {{ cat /dev/zero > state/filler 2> /dev/null; {room}; }}")
    whole.until(lambda: log_has(whole, "disk_full"), "it says that the disk is full")
    assert "job goes on" not in whole.log()
    (disk.root / "filler").unlink()
    whole.until(whole.answers, "the daemon answers")
    assert "job goes on" in whole.log()
    assert whole.gateway.stop(signal.SIGTERM) == 0  # it is the process that was started


def test_one_that_waits_for_its_disk_can_be_stopped(whole: Desk) -> None:
    whole.configure()
    disk = SmallDisk(whole, "size=8m,ro")
    disk.launch()
    whole.until(lambda: log_has(whole, "disk_read_only"), "it waits")
    assert whole.gateway.stop(signal.SIGTERM) == 0
