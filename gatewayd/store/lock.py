"""Find out whether a gatewayd runs on a state directory, without disturbing it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gatewayd.link.holders import find_holder


@dataclass(frozen=True, slots=True)
class LockHolder:
    """`runs` is None if permissions forbid looking; `pid` is None if its process cannot be seen."""

    runs: bool | None
    pid: int | None = None


def find_daemon(state_dir: Path) -> LockHolder:
    """Find which process holds the lock of `state_dir`."""
    lock = state_dir / "lock"
    holder = find_holder(lock)  # first, as it touches nothing
    if holder is not None:
        return LockHolder(runs=True, pid=holder.pid)
    try:
        with held(lock):
            return LockHolder(runs=False)
    except FileNotFoundError:
        return LockHolder(runs=False)
    except BlockingIOError:
        return LockHolder(runs=True)
    except OSError:
        return LockHolder(runs=None)


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Keep a daemon from starting meanwhile. Raises BlockingIOError if one runs, or another OSError."""
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
