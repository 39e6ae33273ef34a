"""`watch` and the shell's completion: they outlive the daemon, or do without."""

import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from lab.containers import gatewayctl
from lab.desk import Desk, desk
from lab.terminals import Pipe, Terminal

from gatewayd.cli import options
from gatewayd.cli.ctl import COMMANDS, cli

pytestmark = pytest.mark.slow

IMAGE = random.Random(9).randbytes(60_000)
# gatewayctl by that name, for a shell: of the environment that runs the tests.
BIN = Path(__file__).parent.parent.parent / ".venv" / "bin"


@pytest.fixture(name="barn", scope="module")
def _barn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("ctl")) as whole:
        # Eight seconds for the image that is interrupted.
        slow = whole.device("slow-1", rate=15_000).config(link={"baud": 115200})
        whole.configure(slow, whole.device("pump-1").config(), whole.device("pump-2").config())
        whole.start()
        for name in ("slow-1", "pump-1", "pump-2"):
            whole.until_state(name, "idle")
        yield whole


def test_watch_survives_a_restart_and_shows_an_update_to_its_end(barn: Desk) -> None:
    with Terminal(barn.socket, "watch") as bars, Pipe(barn.socket, "watch") as lines:
        bars.until("3 devices; no transfer is under way")
        lines.until("^pump-2  idle  4.3.1")
        barn.publish("slow", "4.3.2", IMAGE * 2)
        bars.until(r"slow-1 +\S*━\S* +[1-9]\d* %")
        lines.until(r"^slow-1  transferring  4\.3\.1 -> 4\.3\.2  [1-9]\d+ %")
        barn.stop()
        assert bars.until("gatewayd is gone; waiting for it")
        lines.until("^gatewayd is gone; waiting for it$")
        barn.start()
        bars.until("gatewayd is back")
        lines.until("^gatewayd is back$")
        bars.until(r"resumed 1x")
        lines.until(r"^slow-1  transferring .*, 1 resume$")
        lines.until("^slow-1  succeeded  4.3.2$")
        bars.until("slow-1  succeeded  4.3.2")
        bars.until("3 devices; no transfer is under way")
        bars.press_ctrl_c()
        assert bars.end() == 0
        assert lines.interrupt() == (0, "")
        for text in (bars.text, "\n".join(lines.lines)):
            assert "Traceback" not in text
            assert text.count("gatewayd is gone") == text.count("gatewayd is back") == 1
        assert max(map(len, bars.lines)) <= 80
        assert bars.shown.rindex("\x1b[?25h") > bars.shown.rindex("\x1b[?25l")


def test_watch_survives_a_kill(barn: Desk) -> None:
    with Pipe(barn.socket, "watch", "--json") as pipe:
        pipe.until("pump-1")
        barn.stop(signal.SIGKILL)
        barn.start()
        pipe.until("pump-1")
        code, errors = pipe.interrupt()
    assert (code, errors.splitlines()) == (0, ["gatewayd is gone; waiting for it", "gatewayd is back"])


def test_ctrl_c_while_the_daemon_is_gone(barn: Desk) -> None:
    with Terminal(barn.socket, "watch") as bars:
        bars.until("no transfer is under way")
        barn.stop()
        bars.until("gatewayd is gone")
        bars.press_ctrl_c()
        assert bars.end() == 0
        assert "Traceback" not in bars.text
    barn.start()


def test_a_device_that_is_removed_is_said_to_be(barn: Desk) -> None:
    with Pipe(barn.socket, "watch") as pipe:
        pipe.until("pump-2")
        removed = barn.gateway.config["devices"].pop()
        barn.write()
        barn.good("reload")
        pipe.until("^pump-2  removed from the configuration$")
        barn.gateway.config["devices"].append(removed)
        barn.write()
        barn.good("reload")
        pipe.until("^pump-2  ")


def test_a_device_that_is_removed_while_the_daemon_is_away_is_said_to_be(barn: Desk) -> None:
    with Pipe(barn.socket, "watch") as pipe:
        pipe.until("^pump-2  ")
        barn.stop()
        removed = barn.gateway.config["devices"].pop()
        barn.start()
        pipe.until("^pump-2  removed from the configuration$")
        barn.gateway.config["devices"].append(removed)
        barn.write()
        barn.good("reload")
        assert pipe.interrupt() == (0, "")


def completions(line: str, barn: Desk) -> list[str]:
    """Ask bash what it would offer behind `line`."""
    words = line.split(" ")
    script = f"""
        source <(gatewayctl completion bash)
        COMP_WORDS=({" ".join(word or "''" for word in words)}); COMP_CWORD={len(words) - 1}
        $(complete -p gatewayctl | sed -E 's/.*-F ([^ ]+).*/\\1/') gatewayctl "${{COMP_WORDS[COMP_CWORD]}}" ""
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ran = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "GATEWAYD_SOCKET": str(barn.socket)},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert ran.stderr == ""
    return ran.stdout.split()


def test_bash_completes_commands_options_and_devices(barn: Desk) -> None:
    assert set(completions("gatewayctl ", barn)) == COMMANDS.keys()
    assert completions("gatewayctl re", barn) == ["reload", "resume", "retry"]
    assert "--version" in completions("gatewayctl push --", barn)
    assert completions("gatewayctl pause pump", barn) == ["pump-1", "pump-2"]
    assert completions("gatewayctl devices pump-1 s", barn) == ["slow-1"]
    assert completions("gatewayctl --socket /nowhere pause pump", barn) == []


def test_a_daemon_that_hangs_completes_nothing_and_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_COMPLETION_S", 0.05)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / "control.sock"))
        hanging.listen()
        completion = ShellComplete(cli, {}, "gatewayctl", "_GATEWAYCTL_COMPLETE")
        words = ["--socket", str(tmp_path / "control.sock"), "pause"]
        assert completion.get_completions(words, "pump") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    ran = gatewayctl("completion", shell)
    assert (ran.exit_code, ran.err) == (0, "")
    assert re.search(r"_GATEWAYCTL_COMPLETE=\w+", ran.out)
    assert gatewayctl("completion", "tcsh").exit_code == 2
