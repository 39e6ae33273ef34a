"""The demo for real, as `make demo` runs it, where nobody watches: broker, daemon, device, a cut, resume."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# What `gatewayctl demo` does where amqtt is not installed.
_WITHOUT_AMQTT = "import sys; sys.modules['amqtt'] = None; from gatewayd.cli.ctl import main; main()"


@pytest.mark.parametrize(
    "program", [["-m", "gatewayd.cli.ctl"], ["-c", _WITHOUT_AMQTT]], ids=["amqtt", "mosquitto"]
)
def test_the_demo_ends_with_the_published_image_after_a_cut_and_a_resume(
    tmp_path: Path, program: list[str]
) -> None:
    folder = tmp_path / "demo"
    demo = [sys.executable, *program, "demo", "--dir", str(folder), "--size", "100000"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
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
    done = subprocess.run(demo, capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 1
    assert "holds a demo already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_without_a_broker_it_says_where_to_get_one(tmp_path: Path) -> None:
    code = f"import shutil; shutil.which = lambda *_, **__: None; {_WITHOUT_AMQTT}"
    demo = [sys.executable, "-c", code, "demo", "--dir", str(tmp_path / "demo")]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 1
    assert "the demo's broker is missing" in done.stderr
    assert "apt install mosquitto" in done.stderr
