"""The unit's sandbox as far as it can be seen without systemd; `make test-system` tries it."""

import re
from pathlib import Path

from suites.system.probe import DENIED

from gatewayd.cli.exits import CONFIGURATION
from gatewayd.daemon import STOP_LIMIT_S

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "systemd" / "gatewayd.service").read_text()
# What has no reason but itself.
PLAIN = {"Description", "Documentation", "ExecStart", "WantedBy"}


def test_every_setting_has_its_reason_above_it() -> None:
    reasons = 0
    above = ""
    for line in UNIT.splitlines():
        if line.startswith("#"):
            above, reasons = line, reasons + 1
        elif not line:
            above = ""
        elif "=" in line and line.partition("=")[0] not in PLAIN:
            assert above.startswith("# "), f"why {line}?"
    assert reasons > 30


def test_security_md_lists_what_is_tried() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    table = text.partition("| it may not |\n|---|\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (.+) \|$", table, re.MULTILINE) == list(DENIED)


def test_the_unit_knows_the_daemons_ways() -> None:
    settings = dict(re.findall(r"(?m)^(\w+)=(.*)$", UNIT))
    assert settings["RestartPreventExitStatus"] == str(CONFIGURATION)
    assert float(settings["TimeoutStopSec"]) > STOP_LIMIT_S
