"""The demo for real, as `make demo` runs it, where nobody watches: broker, daemon, device, a cut, resume."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import IO

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

_MAIN = "from gatewayd.cli.ctl import main; main()"
# What `gatewayctl demo` does where something is not installed.
_WITHOUT_AMQTT = "import sys; sys.modules['amqtt'] = None; "
_WITHOUT_MOSQUITTO = "import shutil; shutil.which = lambda *_, **__: None; "


@pytest.mark.parametrize(
    ("lacks", "broker"),
    [
        ("", r"/\S+/mosquitto"),
        (_WITHOUT_MOSQUITTO, r"amqtt, .+ mosquitto is not installed"),
    ],
    ids=["mosquitto", "amqtt"],
)
def test_the_demo_ends_with_the_published_image_after_a_cut_and_a_resume(
    tmp_path: Path, lacks: str, broker: str
) -> None:
    folder = tmp_path / "demo"
    demo = [sys.executable, "-c", lacks + _MAIN, "demo", "--dir", str(folder), "--size", "100000"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=200, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^broker    {broker}$", done.stdout, re.MULTILINE), done.stdout
    assert "pump-1 reports 4.3.2" in done.stdout
    assert "\x1b" not in done.stdout, "escape sequences without a terminal"
    assert (folder / "device" / "active.bin").read_bytes() == (folder / "firmware.bin").read_bytes()
    log = [json.loads(line) for line in (folder / "gatewayd.log").read_text().splitlines()]
    offsets = [entry["offset"] for entry in log if entry["event"] == "transfer"]
    assert offsets[0] == 0
    assert 0 < offsets[-1] < 100_000, "the second session resumed"


def test_a_folder_with_a_demo_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    demo = [sys.executable, "-m", "gatewayd.cli.ctl", "demo", "--dir", str(tmp_path)]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=200, check=False)

    assert done.returncode == 1
    assert "holds a demo already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_without_a_broker_it_says_where_to_get_one(tmp_path: Path) -> None:
    code = _WITHOUT_MOSQUITTO + _WITHOUT_AMQTT + _MAIN
    demo = [sys.executable, "-c", code, "demo", "--dir", str(tmp_path / "demo")]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=200, check=False)

    assert done.returncode == 1
    assert "the demo's broker is missing" in done.stderr
    assert "apt install mosquitto" in done.stderr


def test_the_page_is_opened_and_stays_until_somebody_ends_it(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >{opened}\n')
    browser.chmod(0o755)
    demo = [sys.executable, "-m", "gatewayd.cli.ctl", "demo", "--dir", str(tmp_path / "demo"), "--web"]
    screen = os.environ | {"DISPLAY": ":none", "BROWSER": f"{browser} %s"}
    with subprocess.Popen(
        [*demo, "--size", "100000"], stdout=subprocess.PIPE, text=True, env=screen
    ) as running:
        try:
            assert running.stdout
            said = _until(running.stdout, "The page stays at")
            (address,) = re.findall(r"^page +(\S+)$", said, re.MULTILINE)
            assert f"The page stays at {address} until Ctrl-C." in said
            assert "pump-1 reports 4.3.2" in said, "the page outlives the update"
            assert opened.read_text().strip() == address
            shown = _first_device(address)
            assert (shown["name"], shown["installed_version"]) == ("pump-1", "4.3.2")
        finally:
            running.send_signal(signal.SIGINT)
        assert running.wait(timeout=200) == 0


def _until(output: IO[str], last: str) -> str:
    """What a process prints, up to the line that begins so."""
    lines = []
    for line in output:
        lines.append(line)
        if line.startswith(last):
            return "".join(lines)
    raise AssertionError("".join(lines))


def _first_device(address: str) -> dict[str, object]:
    """The first device that the page is told of, as its script is: by an event."""
    with urllib.request.urlopen(f"{address}events", timeout=200) as stream:  # noqa: S310 - the demo's own page
        events = (json.loads(line.removeprefix(b"data: ")) for line in stream if line.startswith(b"data: "))
        return next(dict(device) for event in events for device in event.get("devices", ()))
