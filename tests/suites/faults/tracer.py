"""strace on the one thread of a store: what it asks of the disk, and failing it there."""

import ctypes
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from gatewayd.store.store import Store

# What changes the disk, and the opening of files. `?`: not every processor's kernel has each of them.
CALLS = (
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "?rename",
    "?renameat",
    "?renameat2",
    "?unlink",
    "?unlinkat",
    "?mkdir",
    "?mkdirat",
)
_ATTACH_LIMIT_S = 120.0
_PR_SET_PTRACER, _ANYBODY = 0x59616D61, ctypes.c_ulong(-1)
_LINE = re.compile(r"^(\w+)\((.*)\)\s+= ")


@dataclass(frozen=True, slots=True)
class Point:
    """The `number`th time that `call` is made it fails with `error`; from then on each time, if `lasting`.

    `promises`: a step that was done rests on this call.
    """

    call: str
    number: int
    error: str
    lasting: bool
    promises: bool = False

    def __str__(self) -> str:
        return f"{self.call}:{self.number}{'+' if self.lasting else ''}:{self.error}"


class Tracer:
    """One strace; ends with `mend`, which leaves the thread as it is."""

    def __init__(self, store: Store, log: Path, point: Point | None) -> None:
        # A child may trace us, also where the kernel only lets a parent do that.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
        thread: int = store._thread.submit(threading.get_native_id).result()  # noqa: SLF001 - to trace just it
        words = ["strace", "-q", "-y", "-p", str(thread), "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
        if point is not None:
            when = f"{point.number}{'+' if point.lasting else ''}"
            words += ["-e", f"inject={point.call}:error={point.error}:when={when}"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait_for(thread)

    def mend(self) -> None:
        """Let everything work from now on."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()

    def _wait_for(self, thread: int) -> None:
        status = Path(f"/proc/self/task/{thread}/status")
        deadline = time.monotonic() + _ATTACH_LIMIT_S
        while f"TracerPid:\t{self._process.pid}\n" not in status.read_text():
            assert self._process.poll() is None, "strace ended: may this user trace its own processes?"
            assert time.monotonic() < deadline, "strace did not attach"
            time.sleep(0.001)


def calls_in(log: Path) -> list[tuple[str, str]]:
    """Return the calls that a log has, in order, each with its arguments."""
    found = (_LINE.match(line) for line in log.read_text().splitlines())
    return [(match[1], match[2]) for match in found if match]


def has_failed(log: Path) -> bool:
    """Whether a call was made to fail."""
    return "(INJECTED)" in log.read_text()
