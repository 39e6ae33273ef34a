"""docs/control.md: its client works, and it names every request."""

import json
import re
import subprocess
import sys
from pathlib import Path

from lab.control_schema import SCHEMA, check
from lab.control_server import FakeOperations, serving

from gatewayd.control.messages import DevicesResult, DeviceView, Link

PAGE = (Path(__file__).parent.parent.parent / "docs" / "control.md").read_text()


def test_the_clients_example_prints_a_line_for_each_device(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    link = Link(kind="uart", address="/dev/ttyUSB0", baud=115200, health="ok", reason=None)
    nothing = dict.fromkeys(DeviceView.model_fields)
    known = {"name": "pump-1", "app_id": "pump", "link": link, "state": "idle", "installed_version": "4.3.1"}
    device = DeviceView.model_validate(nothing | known | {"paused": False})
    operations = FakeOperations(
        DevicesResult(gateway="barn-pi", paused=None, trouble=None, devices=(device,))
    )
    with serving(tmp_path, operations) as path:
        ran = subprocess.run(
            [sys.executable, "-c", example, path], capture_output=True, text=True, timeout=200, check=True
        )
    assert ran.stdout == "pump-1 idle 4.3.1\n"


def test_the_examples_of_lines_fit_the_schema() -> None:
    block = PAGE.partition("```\n")[2].partition("```")[0]
    request, _ = block.splitlines()
    check(json.loads(request), {"$ref": "#/$defs/Request"})


def test_every_request_has_a_row() -> None:
    rows = re.findall(r"^\| (`.+?`) \|", PAGE, re.MULTILINE)
    named = {op for row in rows for op in re.findall(r"`(\w+)`", row)} - {"op"}
    requests = [SCHEMA["$defs"][one["$ref"].rsplit("/")[-1]] for one in SCHEMA["$defs"]["Request"]["oneOf"]]
    ops = [one["properties"]["op"] for one in requests]
    assert named == {op for one in ops for op in one.get("enum", [one.get("const")])}
