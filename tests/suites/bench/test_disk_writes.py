"""What the store does to a disk, and that strace tells the truth about it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab.strace import attach, counting_writes

from suites.bench.daemons import MIB
from suites.bench.disk import written_bytes
from suites.bench.goals import DISK_MARGIN_BYTES, DISK_SHARE, misses

# Writes in a second thread, too, and in another folder, which is not counted.
WRITER = """
import pathlib, sys, threading
sys.stdin.readline()
def write(name, size):
    with open(name, "wb", buffering=0) as file:
        file.write(bytes(size))
write("counted", 1000)
thread = threading.Thread(target=write, args=("counted", 500))
thread.start()
thread.join()
write("also counted", 7)
write("../not counted", 10_000)
"""


async def test_an_update_writes_little_more_than_its_image() -> None:
    spool, store = await written_bytes(1)
    assert spool > MIB
    assert store > 0
    assert spool + store <= DISK_SHARE * MIB + DISK_MARGIN_BYTES


def test_an_update_that_writes_more_misses_its_goal() -> None:
    most = round(DISK_SHARE * MIB + DISK_MARGIN_BYTES)
    rows = [{"image_mib": 1, "disk_bytes": most}, {"image_mib": 1, "disk_bytes": most + 1}]
    (miss,) = misses({"disk_bytes_per_update": rows})
    assert miss == "1,415,579 bytes written to the disk for an image of 1 MiB, the goal is 1,415,578"


def test_the_writes_of_all_threads_below_a_folder_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    writer = subprocess.Popen([sys.executable, "-c", WRITER], cwd=folder, stdin=subprocess.PIPE)
    with counting_writes(writer.pid, folder, tmp_path / "strace") as written:
        writer.communicate(b"\n")
    assert written == {folder / "counted": 1500, folder / "also counted": 7}


@pytest.mark.parametrize(("call", "is_made"), [("mkdir", False), ("fsync", True)])
def test_strace_kills_before_the_call_that_it_counts(tmp_path: Path, call: str, *, is_made: bool) -> None:
    made = tmp_path / "made"
    script = f"import os; os.mkdir({str(made)!r}); os.fsync(os.open({str(tmp_path)!r}, os.O_RDONLY))"
    inject = ["strace", "-f", "-o", os.devnull, "-P", str(made), "-P", str(tmp_path)]
    inject += ["-e", f"inject={call}:signal=KILL:when=1"]
    killed = subprocess.run([*inject, sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert made.exists() is is_made


def test_who_may_not_trace_is_told_what_it_takes() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(AssertionError, match="Is ptrace permitted"):
        attach(gone.pid, "-o", os.devnull)
