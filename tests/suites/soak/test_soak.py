"""The soak in its shortest form: everything that may happen does once or more often."""

import re
import subprocess
import sys
from pathlib import Path

from lab.tree import with_tests_on_path

from suites.soak.__main__ import SHARES
from suites.soak.barn import Barn

# One whose six things are of all kinds, soon one after the other.
SEED = "18785"


def test_whatever_happens_nothing_is_lost_doubled_or_unexplained() -> None:
    soaked = subprocess.run(
        [sys.executable, "-m", "suites.soak", "--seconds", "0", "--seed", SEED],
        env=with_tests_on_path(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (soaked.returncode, soaked.stderr) == (0, ""), soaked.stdout + soaked.stderr
    said = dict(line.split(": ", 1) for line in soaked.stdout.splitlines() if ": " in line)
    assert set(re.findall(r"[a-z_]+", said["6 things happened"])) == set(SHARES)
    assert "succeeded" in said["jobs"]
    assert soaked.stdout.splitlines()[-1] == "0 violations"


def test_what_is_taken_from_the_store_behind_the_daemons_back_is_noticed(tmp_path: Path) -> None:
    barn = Barn(tmp_path / "barn", seed=1)
    try:
        barn.start_daemon()
        barn.await_subscribed()
        barn.publish()
        barn.settle()
        barn.gateway.stop()
        for file in (barn.gateway.folder / "state" / "spool").iterdir():
            if file.is_file():
                file.unlink()
        barn.start_daemon()
        assert "lost" in {violation.rule for violation in barn.judge()}
    finally:
        barn.end()
