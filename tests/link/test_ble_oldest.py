"""The tests of Bluetooth once more, with the bleak that Debian 13 has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LIMIT_S = 500.0  # of a machine that is very busy

TESTS = Path(__file__).parent.parent
OLDEST = Path(sys.prefix) / "oldest"


@pytest.mark.timeout(LIMIT_S + 20)
def test_with_the_bleak_of_debian_13() -> None:
    assert (OLDEST / "bleak").is_dir(), "`make` installs it"
    environment = os.environ | {"PYTHONPATH": str(OLDEST)}
    version = [sys.executable, "-c", "from importlib.metadata import version; print(version('bleak'))"]
    said = subprocess.run(version, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.startswith("0.22.")
    names = ("link/test_ble.py", "link/test_bluez.py", "e2e/test_bluetooth.py")
    # For the newest alone: what is slow, and the same with other names.
    long = ("mixed", "dies", "sleepy", "eight", "in_c", "heals", "erase", "bootloader", "stranger", "board-1")
    short = " and ".join(f"not {word}" for word in long)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        short,
        *(str(TESTS / name) for name in names),
    ]
    ran = subprocess.run(
        command,
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
