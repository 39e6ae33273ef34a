"""The power-loss suite in its short form, and the model of the disk by itself."""

import re
import subprocess
import sys
from random import Random

import pytest
from lab.tree import with_tests_on_path

from suites.power_loss.disk import ROOT, SECTOR, Disk, Link, Op, Resize, Sync, Write, state_at

FILE, FOLDER = 1, 2
CONTENT = b"a" * SECTOR + b"b" * SECTOR
WRITTEN: list[Op] = [Link(ROOT, "file", FILE), Write(FILE, 0, CONTENT)]


def after(ops: list[Op], kind: str, seed: int = 0) -> dict[str, bytes | None]:
    disk = Disk({}, {}, ops, frozenset({ROOT, FOLDER}))
    return state_at(disk, len(ops), kind, Random(seed))


@pytest.mark.parametrize(
    ("kind", "ops", "state"),
    [
        ("synced", WRITTEN, {}),
        ("synced", [*WRITTEN, Sync(FILE)], {}),
        ("synced", [*WRITTEN, Sync(ROOT)], {"file": b""}),
        ("synced", [*WRITTEN, Sync(ROOT), Sync(FILE)], {"file": CONTENT}),
        ("all", WRITTEN, {"file": CONTENT}),
        ("zeros", WRITTEN, {"file": bytes(len(CONTENT))}),
        ("data", [*WRITTEN, Sync(ROOT), Resize(FILE, 1)], {"file": b"a"}),
        ("data", [*WRITTEN, Sync(ROOT), Link(ROOT, "new", FILE, (ROOT, "file"))], {"file": CONTENT}),
        ("all", [*WRITTEN, Link(ROOT, "new", FILE, (ROOT, "file"))], {"new": CONTENT}),
        ("synced", [*WRITTEN, Link(ROOT, "new", FILE, (ROOT, "file")), Sync(ROOT)], {"new": b""}),
        ("synced", [Link(ROOT, "d", FOLDER), Link(FOLDER, "file", FILE), Sync(FOLDER)], {}),
        ("synced", [*WRITTEN, Sync(ROOT), Link(ROOT, "file", None)], {"file": b""}),
    ],
)
def test_what_a_power_cut_leaves(kind: str, ops: list[Op], state: dict[str, bytes | None]) -> None:
    assert after(ops, kind) == state


def test_sectors_and_prefixes_are_chosen_at_random() -> None:
    ops: list[Op] = [
        Link(ROOT, "file", FILE),
        Sync(ROOT),
        Write(FILE, 0, CONTENT),
        Write(FILE, 2 * SECTOR, b"c"),
    ]
    a, b, c, none = b"a" * SECTOR, b"b" * SECTOR, b"c", bytes(SECTOR)
    torn = {after(ops, "sectors", seed)["file"] for seed in range(100)}
    assert torn == {b"", a, none + b, a + b, none + none + c, a + none + c, none + b + c, a + b + c}
    assert {after(ops, "prefix", seed)["file"] for seed in range(100)} == {b"", a + b, a + b + c}


def test_what_was_promised_outlives_a_power_cut() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "suites.power_loss", "--states", "240", "--daemons", "4"],
        env=with_tests_on_path(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried = re.search(r"states tried: (\d+)", done.stdout)
    assert tried is not None
    assert int(tried[1]) > 150
    assert "faults found: 0" in done.stdout
    assert len(re.findall(r"control, .*: caught after", done.stdout)) == 4
