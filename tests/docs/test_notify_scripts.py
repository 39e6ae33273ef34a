"""The two scripts of docs/notify.md, before programs that write down how they were called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from lab.tree import ROOT

from gatewayd.alerts import events

PAGE = (ROOT / "docs" / "notify.md").read_text()
HOSTILE = events.Event(
    "failed",
    "pump-1",
    "1",
    code="device_error",
    reason='"; touch owned; `touch owned` $(touch owned)\nBcc: x',
)


def run(folder: Path, script: str, program: str, exit_code: int = 0) -> tuple[list[str], str]:
    """Run a script with a stand-in for `program`; return its arguments and its input."""
    (folder / "bin").mkdir()
    stand_in = folder / "bin" / program
    stand_in.write_text(
        f"#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done >'{folder}/words'\ncat >'{folder}/input'\n"
        f"exit {exit_code}\n"
    )
    stand_in.chmod(0o755)
    copy = Path(shutil.copy(ROOT / "docs" / "notify" / script, folder / "notify"))
    copy.chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "CREDENTIALS_DIRECTORY": "/run/c"}
    done = subprocess.run(
        [copy],
        env=environment | events.environment("barn", [HOSTILE]),
        input=events.text([HOSTILE]),
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == exit_code
    assert not (folder / "owned").exists()
    return (folder / "words").read_text().splitlines(), (folder / "input").read_text()


@pytest.mark.attack("a shell's words in what a device says")
def test_a_mail(tmp_path: Path) -> None:
    words, mail = run(tmp_path, "mail", "msmtp")
    assert words == ["--file=/run/c/gatewayd-notify.msmtprc", "--", "you@example.org"]
    head, _, body = mail.partition("\n\n")
    assert head.splitlines() == [
        "To: you@example.org",
        "Subject: barn: pump-1: the update failed (device_error)",
        "Content-Type: text/plain; charset=utf-8",
    ]
    assert body == events.text([HOSTILE])


def test_a_message_to_a_phone(tmp_path: Path) -> None:
    words, told = run(tmp_path, "phone", "curl")
    assert words[-1].startswith("https://ntfy.example.org/")
    assert "Title: barn: pump-1: the update failed (device_error)" in words
    assert told == events.text([HOSTILE])


@pytest.mark.parametrize(("script", "program"), [("mail", "msmtp"), ("phone", "curl")])
def test_that_it_was_not_sent_is_not_lost(tmp_path: Path, script: str, program: str) -> None:
    run(tmp_path, script, program, exit_code=7)


def test_the_page_names_each_event_and_variable() -> None:
    for name in (*events.NAMES, *events.environment("barn", [HOSTILE])):
        assert f"`{name}`" in PAGE, name
