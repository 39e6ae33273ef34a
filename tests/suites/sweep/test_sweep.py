"""The crash sweep in its short form: the calls on which something hangs, in each scenario one or two."""

import subprocess
import sys

from lab.tree import with_tests_on_path

from suites.sweep.points import Point
from suites.sweep.scene import CALLS, SCENARIOS

POINTS = [
    *("first:mkdir:1", "first:write:1", "first:fsync:1", "first:fsync:2", "first:rename:1"),
    *("first:ftruncate:1", "first:openat:10", "first:fdatasync:8", "first:pwrite64:40", "first:pwrite64:135"),
    *("next:unlink:1", "next:fdatasync:5", "two:rename:2", "again:pwrite64:12", "older:fsync:2"),
    *("cut-off:pwrite64:20", "cut-off-and-next:fdatasync:12"),
    *("damage-noticed:rename:1", "damaged-page:rename:2", "damaged-page:unlink:3"),
    *("damaged-page:fsync:3", "damaged-page-and-next:rename:3"),
    *("smp:pwrite64:60", "smp:fdatasync:8"),
    *("approve:fdatasync:4", "cancel:pwrite64:12", "push:rename:1"),
]


def test_killed_at_a_system_call_it_loses_and_doubles_nothing() -> None:
    assert {Point.parse(point).call for point in POINTS} == set(CALLS)
    assert {Point.parse(point).scenario for point in POINTS} == {scenario.name for scenario in SCENARIOS}
    only = [word for point in POINTS for word in ("--only", point)]
    swept = subprocess.run(
        [sys.executable, "-m", "suites.sweep", "--jobs", "2", *only],
        env=with_tests_on_path(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    # The control comes first: a daemon that acknowledges before it commits must be caught.
    assert "caught at 3 of 3 points" in swept.stdout, swept.stderr
    totals = swept.stdout.partition("\nall ")[2].split()[:3]
    assert (swept.returncode, totals) == (0, [str(len(POINTS)), str(len(POINTS)), "0"]), swept.stdout
