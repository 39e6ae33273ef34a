"""strace on a running process, and what it says that the process writes to its disk."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Every call that brings bytes into a file. What goes through a mapping is SQLite's index of its log (-shm):
# it is never synced, and made anew at each start.
WRITING = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range")
_WRITTEN = re.compile(rf"(?:{'|'.join(WRITING)})\(\d+<([^>]*)>.* = (\d+)$")


def attach(pid: int, *words: str) -> subprocess.Popen[str]:
    """Attach strace to a process and all its threads; returns once it is attached.

    Raises AssertionError with strace's own words when it may not.
    """
    strace = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert strace.stderr is not None
    said = ""
    for line in strace.stderr:
        said += line
        if "attached" in line:
            return strace
    strace.communicate()
    raise AssertionError(
        f"strace cannot take hold of the daemon, so nothing is shown here: {said.strip()}\n"
        "Is ptrace permitted? It takes root or kernel.yama.ptrace_scope=0, or in a container SYS_PTRACE"
    )


@contextmanager
def counting_writes(pid: int, folder: Path, logs: Path) -> Iterator[dict[Path, int]]:
    """Count the bytes a process writes to each file in `folder` until the block ends, or the process does.

    The figures are there after the block. strace's own files go to `logs`, one for each thread: in one file
    for all of them a call may be told in two halves.
    """
    written: dict[Path, int] = {}
    logs.mkdir()
    words = ["-ff", "-y", "-s", "0", "-e", f"trace={','.join(WRITING)}", "-o", str(logs / "thread")]
    strace = attach(pid, *words)
    try:
        yield written
    finally:
        strace.terminate()
        strace.communicate()
    for log in logs.iterdir():
        for file, size_bytes in _writes(log.read_text()):
            if file.is_relative_to(folder.resolve()):
                written[file] = written.get(file, 0) + size_bytes


def _writes(log: str) -> Iterator[tuple[Path, int]]:
    for line in log.splitlines():
        if match := _WRITTEN.match(line):
            yield Path(match[1]), int(match[2])
