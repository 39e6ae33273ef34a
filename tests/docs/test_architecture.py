"""docs/architecture.md and the tree say the same of the rooms."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
# Face and version, types marker: nobody looks for anything there.
_UNNAMED = {"__init__.py", "py.typed"}


def test_every_room_is_on_the_page_and_exists() -> None:
    rows = re.findall(r"^\| (`.+?`) \|", PAGE, re.MULTILINE)
    named = {name.rstrip("/") for row in rows for name in re.findall(r"`([\w./]+)`", row)}
    named |= {name for name in re.findall(r"`(\w+\.py)`", PAGE) if (ROOT / "gatewayd" / name).exists()}
    rooms = {path.name for path in (ROOT / "gatewayd").iterdir()} - _UNNAMED - {"__pycache__"}
    small = {"log.py", "timestamps.py"}  # what they hold is in their names
    assert rooms - small <= named
    assert {name for name in named if not (ROOT / "gatewayd" / name).exists()} == set()


def test_every_module_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", PAGE))
    assert len(named) > 30
    places = (ROOT / "gatewayd", ROOT)
    assert [path for path in sorted(named) if not any((place / path).exists() for place in places)] == []
