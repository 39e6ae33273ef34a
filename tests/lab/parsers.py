"""What a parser's work is counted with, and how thoroughly it is tried."""

import gc
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

W = TypeVar("W")
T = TypeVar("T", str, bytes)

# `make fuzz` asks for ten thousand.
EXAMPLES = int(os.environ.get("GATEWAYD_EXAMPLES", "1000"))
THOROUGH = settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))


def words(known: Sequence[W], most: int) -> st.SearchStrategy[list[W]]:
    """Up to `most` of what is known; drawn as bytes, which is much cheaper than a list."""

    def spell(raw: bytes) -> list[W]:
        pairs = (raw[at : at + 2] for at in range(0, len(raw) - 1, 2))
        return [known[int.from_bytes(pair, "big") % len(known)] for pair in pairs]

    return st.binary(max_size=2 * most).map(spell)


def anywhere(known: Sequence[T], end: int) -> list[tuple[int, T]]:
    """Pair each piece with each place up to `end`, for `edited`."""
    return [(at, piece) for at in range(end) for piece in known]


def edited(whole: T, edits: Sequence[tuple[int, T]]) -> T:
    """Return a text, or bytes, with pieces put in at places."""
    for at, piece in edits:
        whole = whole[:at] + piece + whole[at:]
    return whole


class Steps:
    """A count of calls, of Python's functions and of C's: a loop over the input is seen in either."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, _frame: FrameType, event: str, _arg: Any) -> None:
        if event in ("call", "c_call"):
            self.count += 1


@contextmanager
def counted() -> Iterator[Steps]:
    """Count what is called within, and not what is called when others' garbage goes."""
    steps, before = Steps(), sys.getprofile()
    gc.disable()
    sys.setprofile(steps.note)
    try:
        yield steps
    finally:
        sys.setprofile(before)
        gc.enable()


def steps_of(work: Callable[[], object]) -> int:
    with counted() as steps:
        work()
    return steps.count


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most memory that `work` held at once, its result included."""
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        del result
