"""The table of codes, gatewayd and docs/codes.md name the same codes; nothing else classifies them."""

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gatewayd.codes import UNKNOWN, Code, Fault, meaning
from gatewayd.errors import GatewaydError
from gatewayd.protocol.rcp.codes import RcpCode

ROOT = Path(__file__).parents[2]
CODES = {str(code) for code in Code}
# Of a link's health, which is a code when something failed.
HEALTH = {"ok", "unknown"}


@functools.cache
def nodes() -> list[tuple[Path, ast.AST]]:
    """Return every node of the package but those of the table itself, with the file that it stands in."""
    return [
        (place, node)
        for path in sorted((ROOT / "gatewayd").rglob("*.py"))
        if (place := path.relative_to(ROOT)) != Path("gatewayd/codes.py")
        for node in ast.walk(ast.parse(path.read_text()))
    ]


def texts(node: ast.AST | None) -> set[str]:
    """Return the string that an expression is, or those that it chooses among."""
    match node:
        case ast.Constant(value=str() as text):
            return {text} - {""}
        case ast.IfExp():
            return texts(node.body) | texts(node.orelse)
        case ast.BoolOp():
            return set().union(*map(texts, node.values))
    return set()


def code_arguments() -> dict[str, set[int]]:
    """Return where a function or a dataclass takes `code` by position, by the name it is called with."""
    places: dict[str, set[int]] = {}
    for _, node in nodes():
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names = [one.arg for one in node.args.args if one.arg not in ("self", "cls")]
            case ast.ClassDef():
                names = [
                    one.target.id
                    for one in node.body
                    if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
                ]
            case _:
                continue
        if "code" in names:
            places.setdefault(node.name, set()).add(names.index("code"))
    return places


def raised() -> dict[str, str]:
    """Return every literal that stands where a code goes, with a place where it does."""
    places = code_arguments()
    found: dict[str, str] = {}
    for path, node in nodes():
        values: list[ast.AST | None] = []
        match node:
            case ast.Call():
                name = str(getattr(node.func, "id", "") or getattr(node.func, "attr", ""))
                values += [node.args[at] for at in places.get(name, ()) if at < len(node.args)]
                values += [one.value for one in node.keywords if one.arg == "code"]
            case ast.Assign(
                targets=[
                    ast.Name(id="default_code" | "code")
                    | ast.Subscript(slice=ast.Constant(value="code"))
                    | ast.Attribute(attr="code")
                ]
            ):
                values.append(node.value)
            case ast.Assign(
                targets=[ast.Tuple(elts=[ast.Name(id="code"), *_])], value=ast.Tuple(elts=[value, *_])
            ):
                values.append(value)
            case ast.Dict():
                pairs = zip(node.keys, node.values, strict=True)
                values += [value for key, value in pairs if texts(key) == {"code"}]
            case _:
                continue
        for text in set().union(*map(texts, values)):
            found[text] = f"{path}:{getattr(node, 'lineno', 0)}"
    return found


def test_every_code_that_is_raised_is_in_the_table() -> None:
    found = raised()
    assert {"qos0", "no_release", "withdrawn", "connect_failed", "version_differs", "paused"} <= set(found)
    assert {text: at for text, at in found.items() if text not in CODES | HEALTH} == {}
    assert {one.name.lower() for one in RcpCode} <= CODES


def test_every_code_in_the_table_is_raised_somewhere() -> None:
    """As text of its own, or as a member in a table from the errors of a library to ours."""
    said = {text for _, node in nodes() for text in texts(node)} | {one.name.lower() for one in RcpCode}
    said |= {
        node.attr.lower()
        for path, node in nodes()
        if isinstance(node, ast.Attribute) and node.attr.isupper() and path.parts[:2] == ("gatewayd", "link")
    }
    assert CODES - said == set()


def test_a_member_is_its_name_in_small_letters() -> None:
    assert {code.name.lower() for code in Code} == CODES


def documented() -> dict[str, list[str]]:
    """Return the codes of each section of docs/codes.md."""
    text = (ROOT / "docs" / "codes.md").read_text()
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", text, re.MULTILINE))
    found = {}
    for title, body in sections.items():
        rows = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \|$", body, re.MULTILINE)
        assert all(what and next_step for _, what, next_step in rows)
        found[title] = [code for code, _, _ in rows]
    return found


def test_the_page_has_every_code_once_and_no_other_in_the_section_of_its_fault() -> None:
    table: dict[str, list[str]] = {fault.value: [] for fault in Fault}
    for code in Code:
        table[code.meaning.fault.value].append(str(code))
    assert {title: sorted(codes) for title, codes in documented().items()} == {
        title: sorted(codes) for title, codes in table.items()
    }


def test_what_another_version_or_a_device_says_has_a_meaning_too() -> None:
    assert meaning("code_0399") is meaning("") is UNKNOWN
    assert GatewaydError("", code=Code.LATE).code == "late"
    assert type(GatewaydError("", code=Code.LATE).code) is str


def is_a_code(node: ast.AST) -> bool:
    """Whether an expression is what an error, a job or a decision has for its code."""
    return (isinstance(node, ast.Attribute) and node.attr == "code") or (
        isinstance(node, ast.Name) and node.id == "code"
    )


def elements(node: ast.AST) -> Iterable[ast.AST]:
    if isinstance(node, ast.Set | ast.Tuple | ast.List):
        return node.elts
    return node.keys if isinstance(node, ast.Dict) else ()  # type: ignore[return-value]  # no ** among them


def classified(nodes: Iterable[tuple[Path, ast.AST]]) -> Iterator[str]:
    """Yield the places outside the table that compare a code with text or gather codes in a set.

    The numbers of RCP are not meant: what they ask of the session is the protocol's own business.
    """
    for path, node in nodes:
        if path.parts[:3] == ("gatewayd", "protocol", "rcp"):
            continue
        match node:
            case ast.Compare(left=left, comparators=[right]) if is_a_code(left) or is_a_code(right):
                if any(texts(one) for side in (left, right) for one in (side, *elements(side))):
                    yield f"{path}:{node.lineno}"
                if any(isinstance(one, ast.Attribute) for one in elements(right)):
                    yield f"{path}:{node.lineno}"
            case ast.Match() if is_a_code(node.subject):
                patterns = [one for case in node.cases for one in ast.walk(case.pattern)]
                if any(isinstance(one, ast.MatchValue) and texts(one.value) for one in patterns):
                    yield f"{path}:{node.lineno}"
            case ast.Set() if len(node.elts) > 1 and set().union(*map(texts, node.elts)) <= CODES:
                if all(texts(one) for one in node.elts):
                    yield f"{path}:{node.lineno}"


def test_nothing_but_the_table_classifies_codes() -> None:
    assert list(classified(nodes())) == []


@pytest.mark.parametrize(
    "line",
    [
        'error.code == "late"',
        '"late" != error.code',
        'code in {"late", "echo"}',
        'error.code in ("late", other)',
        "error.code in (Code.LATE, Code.ECHO)",
        'SILENCE = frozenset({"late", "echo"})',
        'match error.code:\n    case "late" | "echo": pass',
    ],
)
def test_what_classifies_is_found(line: str) -> None:
    assert list(classified((Path("gatewayd/new.py"), node) for node in ast.walk(ast.parse(line))))
