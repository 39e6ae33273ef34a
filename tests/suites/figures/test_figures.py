"""`make figures` counts what it says, on a tree of a few lines."""

import json
import subprocess
import sys
from pathlib import Path

from lab.tree import ROOT, with_tests_on_path

from suites.figures.structure import circles, count, floors

FILES = {
    "gatewayd/__init__.py": "",
    "gatewayd/codes.py": 'FINAL = {"bad_magic"}\n',
    "gatewayd/low.py": "def one():\n    pass\n",
    "gatewayd/room/__init__.py": "",
    "gatewayd/room/base.py": "from gatewayd import low\n",
    "gatewayd/room/top.py": """\
from gatewayd.room import base


class A:
    @property
    def two(self):
        async def three(code):
            if code in ("link_lost", "nothing") or code == "bad_magic":
                return {"code": "link_lost"}
            if self.state == "bad_magic":
                return {"bad_magic", "idle"}
            return frozenset({"bad_magic"})
        return three
""",
    "docs/codes.md": "| `bad_magic` | a | b |\n| `link_lost` | a | b |\n",
    "tests/test_a.py": "",
    "tests/room/test_b.py": "",
    "pyproject.toml": """\
[[tool.importlinter.contracts]]
containers = ["gatewayd"]
layers = ["room", "codes | other"]
""",
}
EXPECTED = {
    "files": 6,
    "lines": 17,
    "longest file": "13 (room/top.py)",
    "files over 400 lines": 0,
    "functions": 3,
    "longest function": "8 (room/top.py:two)",
    "functions over 40 lines": 0,
    "floors": 3,
    "floors in one room": "2 (gatewayd.room)",
    "arrows between modules": 2,
    "rooms": 4,
    "arrows between rooms": 1,
    "modules in circles": 0,
    "rooms in circles": 0,
    "modules outside the contracts": 1,
    "codes compared outside codes.py": 3,
    "files of tests": 2,
    "files of tests at the top": 1,
}


def figures(*words: object) -> str:
    """Run it in a process of its own: here the package of that name is imported already."""
    return subprocess.run(
        [sys.executable, "-m", "suites.figures", *map(str, words)],
        cwd=ROOT,
        env=with_tests_on_path(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=200,
    ).stdout


def test_a_small_tree(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert json.loads(figures("--json", tmp_path)) == {str(tmp_path): EXPECTED}
    assert figures("--where", tmp_path).splitlines() == [
        "gatewayd/room/top.py:8 link_lost",
        "gatewayd/room/top.py:8 bad_magic",
        "gatewayd/room/top.py:12 bad_magic",
        "gatewayd.low is in no contract",
    ]


def test_modules_that_import_each_other_are_one_floor() -> None:
    arrows = {
        "a": frozenset({"b"}),
        "b": frozenset({"c"}),
        "c": frozenset({"b", "d"}),
        "d": frozenset[str](),
    }
    assert (floors(arrows), count(arrows)) == (3, 4)
    assert [one for one in circles(arrows) if len(one) > 1] == [frozenset({"b", "c"})]
