"""Every point, one process each, and the table of what came of them."""

import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gatewayd.store.store import Store
from suites.faults.story import Account, live
from suites.faults.tracer import Point, calls_in

ERRORS = ("ENOSPC", "EIO")
# Where one of these fails at the log of a commit or at a message and nobody notices, a promise is broken.
_PROMISING = frozenset({"write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2"})


@dataclass(frozen=True, slots=True)
class Result:
    """A point, whether the fault showed in a step, and what is wrong."""

    point: Point
    showed: bool
    wrong: tuple[str, ...]


def reference() -> tuple[Account, list[Point]]:
    """Live once without faults; return what that leaves, and where it can fail."""
    with tempfile.TemporaryDirectory() as name:
        account = live(Path(name), None)
        assert not account.failed_steps, account
        calls = calls_in(Path(name) / "strace")
    return account, list(_points(calls, len(account.calls)))


def _points(calls: Sequence[tuple[str, str]], until_closed: int) -> Iterator[Point]:
    """Yield each call with each error, failing once and from then on. Closing the store promises nothing."""
    times: Counter[str] = Counter()
    for index, (call, arguments) in enumerate(calls):
        times[call] += 1
        promises = call in _PROMISING and index < until_closed and _holds_promises(arguments)
        for error in ERRORS:
            yield Point(call, times[call], error, lasting=False, promises=promises)
            yield Point(call, times[call], error, lasting=True, promises=promises)


def _holds_promises(arguments: str) -> bool:
    return "/gatewayd.db-wal>" in arguments or "/spool" in arguments


def try_point(point: Point, expected: Account, make_store: Callable[..., Store] = Store) -> Result:
    """Live with a fault at `point`, and compare what is left with what a life without leaves."""
    with tempfile.TemporaryDirectory() as name:
        account = live(Path(name), point, make_store)
    wrong = list(account.wrong)
    # A full disk need not show: the reserve may have been enough. Messages do not get that.
    if point.promises and point.error == "EIO" and not account.failed_steps:
        wrong.append("nobody noticed")
    if not account.hit:
        wrong.append("the fault did not happen")
    for what, stored in expected.stored.items():
        if account.stored.get(what) != stored:
            wrong.append(f"{what}: {account.stored.get(what)}, expected {stored}")
    return Result(point, bool(account.failed_steps), tuple(wrong))


def _try(work: tuple[Point, Account]) -> Result:
    return try_point(*work)


def run(chosen: Sequence[Point], expected: Account, processes: int) -> list[Result]:
    """Try points, each in a process of its own that has nothing to load."""
    context = multiprocessing.get_context("fork")
    with context.Pool(processes, maxtasksperchild=1) as pool:
        return list(pool.imap_unordered(_try, [(point, expected) for point in chosen], chunksize=1))


def table(results: Iterable[Result]) -> str:
    """Return one line for each call and error: points, those that showed in a step, those that are wrong."""
    rows: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        rows.setdefault((result.point.call, result.point.error), []).append(result)
    lines = [f"{'call':<10}  {'error':<6}  {'points':>6}  {'showed':>6}  {'wrong':>5}"]
    for (call, error), each in sorted(rows.items()):
        showed, wrong = sum(one.showed for one in each), sum(bool(one.wrong) for one in each)
        lines.append(f"{call:<10}  {error:<6}  {len(each):>6}  {showed:>6}  {wrong:>5}")
    return "\n".join(lines)
