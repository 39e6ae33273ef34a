"""`gatewayctl notify` beside a real daemon, with devices that refuse and fail."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab.containers import gatewayctl
from lab.desk import Desk, desk
from lab.teller import Teller

pytestmark = pytest.mark.daemon

IMAGE = random.Random(21).randbytes(20_000)
# Longer than any program here takes.
STOP_LIMIT_S = 120.0


@pytest.fixture(name="barn")
def _barn(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as whole:
        whole.configure(
            whole.device("gate-1", break_after_activate=True).config(trial_s=1),
            whole.device("pump-1").config(),
            whole.device("tank-1").config(),
        )
        whole.start()
        for name in whole.devices:
            whole.until_state(name, "idle")
        yield whole


@contextmanager
def notifying(barn: Desk, teller: Teller) -> Iterator[None]:
    """Run it as the service does; it ends well when it is asked to."""
    words = ["--socket", barn.socket, "notify", "--run", teller.path, "--state", barn.folder / "state.json"]
    with (barn.folder / "notify.log").open("ab") as log:
        command = [sys.executable, "-m", "gatewayd.cli.ctl", *map(str, words)]
        process = subprocess.Popen(command, cwd=barn.folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_LIMIT_S)
    assert code == 0, (barn.folder / "notify.log").read_text()


def publish_bad(barn: Desk, app: str, version: str) -> None:
    """Publish something whose signature does not fit."""
    content = bytearray(barn.container(IMAGE, "--no-encrypt").read_bytes())
    content[-1] ^= 1
    (barn.folder / "bad.ota").write_bytes(content)
    barn.gateway.publish(barn.folder / "bad.ota", version, app)


def test_a_failure_is_told_once_whoever_is_restarted(barn: Desk, tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    with notifying(barn, teller):
        barn.publish("gate", "4.3.2", IMAGE)
        barn.until(teller.runs, "the failure is told")
        barn.stop()
        barn.start()
        publish_bad(barn, "tank", "4.3.2")
        barn.until(lambda: len(teller.runs()) > 1, "the refusal is told")
    failed, refused = teller.runs()
    assert (failed["EVENT"], failed["DEVICE"], failed["CODE"]) == ("failed", "gate-1", "reverted")
    assert failed["REASON"] == barn.views()["gate-1"].reason
    assert failed["NEXT_STEP"]
    assert failed["SUMMARY"] == "barn: gate-1: the update to 4.3.2 failed (reverted)"
    assert (refused["EVENT"], refused["DEVICE"]) == ("refused", "tank-1")
    assert refused["CODE"] == barn.views()["tank-1"].code

    publish_bad(barn, "pump", "4.3.2")
    barn.until_state("pump-1", "refused")
    with notifying(barn, teller):
        barn.until(lambda: len(teller.runs()) > 2, "what was refused meanwhile is told")
    assert [run["DEVICE"] for run in teller.runs()] == ["gate-1", "tank-1", "pump-1"]


@pytest.mark.parametrize(
    ("mode", "told"), [(None, "there is no such file"), (0o644, "it cannot be executed by this user")]
)
def test_a_program_that_cannot_be_run_is_told_at_the_start(
    tmp_path: Path, mode: int | None, told: str
) -> None:
    program = tmp_path / "tell"
    if mode is not None:
        program.touch(mode)
    ran = gatewayctl("notify", "--run", str(program))
    assert ran.exit_code == 78
    assert ran.err.startswith(f"gatewayctl: --run {program}: {told} (")


def test_an_event_that_there_is_not_is_a_usage_error(tmp_path: Path) -> None:
    ran = gatewayctl("notify", "--run", str(Teller(tmp_path).path), "--on", "failed,halted")
    assert ran.exit_code == 2
    assert "'halted' is none of failed, refused, trouble, unreachable, offered, succeeded" in ran.err


@pytest.mark.parametrize(("first", "exit_code"), [("", 0), ("exit 3", 1)])
def test_it_can_be_tried_without_a_daemon(tmp_path: Path, first: str, exit_code: int) -> None:
    teller = Teller(tmp_path, first)
    ran = gatewayctl("notify", "--run", str(teller.path), "--test")
    assert ran.exit_code == exit_code
    assert len(teller.runs()) == 1 - exit_code
    if teller.runs():
        assert "this is a test" in teller.runs()[0]["REASON"]
