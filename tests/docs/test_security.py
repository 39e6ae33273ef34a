"""docs/security.md is kept: every attack in its tables has its test, and every test of an attack its row."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from gatewayd.codes import Code

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^\| (.+) \| (-|`[a-z0-9_`, ]+`) \| `(tests/[a-z0-9_/]+\.py)::([a-z0-9_]+)(?:\[(.+)\])?` \|$"
)
BAD = ROOT / "tests" / "config" / "bad"


@dataclass(frozen=True)
class Attack:
    """A row, or what a test is marked with."""

    name: str
    codes: frozenset[str]
    file: str
    function: str


def rows() -> list[tuple[Attack, str | None]]:
    """Return the rows of all tables, and which file of tests/config/bad a row names."""
    found = []
    for line in (ROOT / "docs" / "security.md").read_text().splitlines():
        if match := ROW.match(line):
            name, codes, file, function, bad = match.groups()
            codes_named = frozenset(re.findall(r"`([a-z0-9_]+)`", codes))
            found.append((Attack(name, codes_named, file, function), bad))
    return found


def marked(path: Path) -> list[tuple[Attack, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return the attacks that a file's tests are marked with."""
    file = str(path.relative_to(ROOT))
    found = []
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) in ("attack", "pytest.mark.attack"):
                name, *codes = [one.value for one in ast.walk(mark) if isinstance(one, ast.Constant)]
                found.append((Attack(str(name), frozenset(map(str, codes)), file, node.name), node))
    return found


def all_marked() -> list[tuple[Attack, ast.FunctionDef | ast.AsyncFunctionDef]]:
    return [one for path in sorted((ROOT / "tests").rglob("test_*.py")) for one in marked(path)]


def test_every_row_has_its_test_and_every_marked_test_its_row() -> None:
    named = [row for row, bad in rows() if bad is None]
    tests = [attack for attack, _ in all_marked()]
    assert set(named) - set(tests) == set(), "rows without a test that is marked so"
    assert set(tests) - set(named) == set(), "tests without a row"
    assert len(named) == len(set(named)) > 50


def test_every_code_in_the_tables_is_documented() -> None:
    assert {code for row, _ in rows() for code in row.codes} - {str(code) for code in Code} == set()


def test_a_marked_test_demands_its_codes() -> None:
    """By the fixture `codes`, or by naming them outside of its mark."""
    for attack, node in all_marked():
        if any(one.arg == "codes" for one in node.args.args):
            continue
        source = (ROOT / attack.file).read_text()
        if attack.file.startswith("tests/config/"):
            source += (ROOT / "tests" / "lab" / "configuration.py").read_text()
        marks = [mark for other, _ in marked(ROOT / attack.file) for mark in other.codes]
        for code in attack.codes:
            assert source.count(f'"{code}"') > marks.count(code), (attack, code)


def test_rows_about_a_file_name_one_that_is_there() -> None:
    files = [(row, bad) for row, bad in rows() if bad is not None]
    assert len(files) >= 10
    for row, bad in files:
        assert row.function in (ROOT / row.file).read_text()
        assert (BAD / f"{bad}.yaml").exists()
        assert re.search(rf"^{bad}\.yaml(:\d+)?: ", (BAD / f"{bad}.expected").read_text())
