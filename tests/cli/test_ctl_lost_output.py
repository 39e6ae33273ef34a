"""Standard output that cannot be written: one line, exit code 1 and no trace, from every command."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.desk import Desk, desk

from gatewayd.cli.ctl import COMMANDS
from gatewayd.cli.exits import CONFIGURATION, REFUSED

pytestmark = pytest.mark.slow

PROGRAMS = {name: ("-m", "gatewayd.cli.ctl", name, "--help") for name in sorted(COMMANDS)} | {
    "gatewayctl": ("-m", "gatewayd.cli.ctl", "--version"),
    "gatewayd": ("-m", "gatewayd.cli.daemon", "--help"),
    "manual": ("-m", "gatewayd.cli.manual", "gatewayctl.1"),
    "schema": ("-m", "gatewayd.cli.schema"),
}
OFFLINE = (
    ("check-config", "config.yaml"),
    ("check-config", "--print-schema"),
    ("check-config", "config.yaml", "--json"),
    ("check-config", "missing.yaml", "--json"),
    ("completion", "bash"),
    ("config", "--effective", "--config", "config.yaml"),
    ("doctor", "--config", "config.yaml"),
)
ASKING = (
    ("devices",),
    ("devices", "--json"),
    ("explain", "pump-1"),
    ("job", "1", "--json"),
    ("jobs",),
    ("pause", "nobody", "--json"),
    ("pause", "pump-1"),
    ("reload",),
    ("resume", "pump-1"),
    ("watch",),
    ("watch", "--json"),
)
FULL = b"cannot write to standard output: No space left on device"
CLOSED = b"standard output is closed (to discard what is printed, redirect it to /dev/null)"


def run(folder: Path, stdout: int, *words: str) -> tuple[int, bytes]:
    """Run a program that shows what Python otherwise hides: errors while it ends, files not closed."""
    command = [sys.executable, "-X", "dev", "-W", "error", *words]
    ran = subprocess.run(command, cwd=folder, stdout=stdout, stderr=-1, timeout=200, check=False)
    # That a callback took long says something about the machine alone.
    return ran.returncode, re.sub(rb"(?m)^Executing <.* took [\d.]+ seconds\n", b"", ran.stderr)


@pytest.fixture(name="full", scope="module")
def _full() -> Iterator[int]:
    with Path("/dev/full").open("wb") as file:
        yield file.fileno()


@pytest.fixture(name="unread")
def _unread() -> Iterator[int]:
    """A pipe whose reader has gone away."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture(name="barn", scope="module")
def _barn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("lost")) as whole:
        whole.configure(whole.device("pump-1").config())
        whole.start()
        whole.until_state("pump-1", "idle")
        yield whole


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_and_command_on_a_full_disk(tmp_path: Path, full: int, name: str) -> None:
    code, said = run(tmp_path, full, *PROGRAMS[name])
    assert (code, FULL in said, said.count(b"\n")) == (REFUSED, True, 1), said


@pytest.mark.parametrize("words", [*OFFLINE, *ASKING], ids=" ".join)
def test_what_a_command_prints_is_lost_on_a_full_disk(barn: Desk, full: int, words: tuple[str, ...]) -> None:
    code, said = run(barn.folder, full, *command(barn, words))
    assert (code, said.count(b"\n")) == (REFUSED, 1), said
    assert said.startswith(b"gatewayctl: " + FULL)


@pytest.mark.parametrize("words", [("devices",), ("watch", "--json"), ("check-config", "--print-schema")])
def test_a_reader_that_goes_away_is_told_nothing(barn: Desk, unread: int, words: tuple[str, ...]) -> None:
    assert run(barn.folder, unread, *command(barn, words)) == (REFUSED, b"")


@pytest.mark.parametrize("words", [("keygen", "-o", "never.key"), ("devices", "--json")], ids=" ".join)
def test_with_a_closed_output_nothing_is_begun(barn: Desk, words: tuple[str, ...]) -> None:
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, *command(barn, words)]
    ran = subprocess.run(shell, cwd=barn.folder, stderr=-1, timeout=200, check=False)
    assert (ran.returncode, ran.stderr) == (REFUSED, b"gatewayctl: " + CLOSED + b"\n")
    assert not (barn.folder / "never.key").exists()


def test_what_a_command_did_stays_done(tmp_path: Path, barn: Desk, full: int) -> None:
    code, said = run(tmp_path, full, *command(barn, ("keygen", "-o", "ota.key")))
    assert (code, FULL in said, (tmp_path / "verify.key.bin").exists()) == (REFUSED, True, True)
    barn.good("resume", "pump-1")
    run(barn.folder, full, *command(barn, ("pause", "pump-1")))
    assert barn.views()["pump-1"].paused
    barn.good("resume", "pump-1")


def test_a_full_disk_behind_both_outputs_leaves_the_exit_code(tmp_path: Path, full: int) -> None:
    command = [sys.executable, "-m", "gatewayd.cli.ctl", "completion", "bash"]
    ran = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=full, timeout=200, check=False)
    assert ran.returncode == REFUSED


def command(barn: Desk, words: tuple[str, ...]) -> list[str]:
    return ["-m", "gatewayd.cli.ctl", "--socket", str(barn.socket), *words]


def test_an_error_that_cannot_be_told_keeps_its_exit_code(tmp_path: Path, full: int) -> None:
    (tmp_path / "config.yaml").write_text("devices: {")
    command = [sys.executable, "-m", "gatewayd.cli.daemon", "--config", "config.yaml"]
    ran = subprocess.run(command, cwd=tmp_path, stderr=full, timeout=200, check=False)
    assert ran.returncode == CONFIGURATION
