"""What CI and the night make, and how their scripts speak: budgets, and progress that is never silent."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from lab.tree import ROOT

CI = ROOT / ".ci"
MAKEFILE = (ROOT / "Makefile").read_text()
# What may run for 90 minutes on a busy machine has to take less on a quiet one.
MOST_S = 55 * 60
# What makes or prints something, and `quick`, which `test` contains. All others are on the night's list.
NO_SUITES = {"help", "quick", "deb", "nightly", "release", "transcripts", "figures", "clean"}
NO_SUITES |= {"install", "uninstall", "pictures", "pictures-ha"}


def lines(name: str) -> dict[str, int]:
    """The seconds of each line of a list, by what `make` is given."""
    rows = [line.split(maxsplit=1) for line in (CI / name).read_text().splitlines()]
    return {row[1]: int(row[0]) for row in rows if row and not row[0].startswith("#")}


@pytest.mark.parametrize("name", ["budgets", "nightly"])
def test_each_line_is_a_target_and_all_fit_into_the_total(name: str) -> None:
    budgets = lines(name)
    total = budgets.pop("total")
    assert sum(budgets.values()) <= total
    for words in budgets:
        target, *variables = words.split()
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), words
        for variable in variables:
            assert re.search(rf"^{variable.partition('=')[0]} \?=", MAKEFILE, re.MULTILINE), words


def test_ci_ends_in_time_and_the_night_leaves_nothing_out() -> None:
    assert lines("budgets")["total"] <= MOST_S
    targets = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE)) - NO_SUITES
    assert targets == {words.split()[0] for words in lines("nightly")} - {"total"}
    assert {words.split()[0] for words in lines("budgets")} <= targets | {"total"}


def make(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Make a list with a `make` that notes what it is given, and takes as many seconds as the target says."""
    fake = tmp_path / "make"
    fake.write_text(f'#!/bin/sh\necho "$2" >>{tmp_path}/made\nsleep "${{2#for-}}"\n')
    fake.chmod(0o755)
    (tmp_path / "list").write_text(text)
    environment = os.environ | {"MAKE": str(fake)}
    command = [str(CI / "targets"), str(tmp_path / "list")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)


def test_what_is_over_budget_is_said_and_fails_nothing(tmp_path: Path) -> None:
    ran = make(tmp_path, "# seconds\n100 total\n0 for-1.1\n100 for-0\n")
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"\*\*\* OVER BUDGET: for-1\.1 took \d+ s, \S+ allows 0 s \(load ", ran.stdout)
    assert re.search(r"s of +100 s  ok +for-0\n", ran.stdout)
    assert re.search(r"s of +100 s  ok +all of \S+list\n\Z", ran.stdout), "the total comes last"


def test_the_first_failure_ends_it(tmp_path: Path) -> None:
    ran = make(tmp_path, "100 total\n100 not-a-number\n100 for-0\n")
    assert ran.returncode != 0
    assert (tmp_path / "made").read_text() == "not-a-number\n"


def step(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(CI / "step"), "installing x", *words]
    environment = os.environ | {"STEP_EVERY_S": "0.2"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)


def test_a_step_that_takes_long_says_how_far_it_is() -> None:
    ran = step("sh", "-c", "echo Get:1 python3; sleep 1")
    assert (ran.returncode, ran.stderr) == (0, "")
    first, *others = ran.stdout.splitlines()
    assert first == "gatewayd: installing x ..."
    assert any(re.fullmatch(r"gatewayd: installing x: \d+ s: Get:1 python3", line) for line in others)


def test_a_step_that_fails_shows_all_it_printed_and_its_exit_code() -> None:
    ran = step("sh", "-c", "echo one; echo two >&2; exit 7")
    assert (ran.returncode, ran.stderr) == (7, "one\ntwo\n")


def test_the_package_says_that_there_is_no_room_for_it(tmp_path: Path) -> None:
    """Before it makes or unpacks anything."""
    small = tmp_path / "small"
    small.mkdir()
    mount = 'mount -t tmpfs -o size=20m none "$1"; exec .ci/deb'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", mount, "sh", str(small)]
    environment = os.environ | {"TMPDIR": str(small)}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert re.fullmatch(
        rf"gatewayd: building the package takes \d+ MiB in {small}, which has 20 MiB free: .*TMPDIR=.+\n",
        ran.stderr,
    ), ran.stderr


@pytest.mark.parametrize(("mib", "code"), [(1, 0), (10**9, 1)])
def test_room_is_a_matter_of_free_space(tmp_path: Path, mib: int, code: int) -> None:
    command = [str(CI / "room"), str(tmp_path), str(mib), "cooking", "clear the table"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert ran.returncode == code
    assert bool(ran.stderr) == bool(code)


def test_nothing_is_installed_without_a_word() -> None:
    """Pip and apt run in a step, wherever somebody may wait for them."""
    scripts = [MAKEFILE, *((CI / name).read_text() for name in ("packages", "run", "install"))]
    for line in "\n".join(scripts).replace("\\\n", " ").splitlines():
        if not line.startswith(("#", "PIP :=")) and re.search(r"\$\(PIP\)|apt-get (update|install) -", line):
            assert ".ci/step" in line or 'step"' in line or line.startswith("\t\tapt-get"), line
