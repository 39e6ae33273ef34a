"""docs/codes.md names every stable code in gatewayd, once, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from gatewayd.delivery.retry import FINAL, HOST_TROUBLE, ITS_OWN_TIME, LINE_AWAY, NOT_FOR_IT
from gatewayd.jobs.model import NEVER_AGAIN, NO_CONTACT
from gatewayd.protocol.rcp.codes import Code

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"[a-z][a-z0-9_]+")
# The protocol's own; what the tables of jobs/ compare with.
TABLES = {code.name.lower() for code in Code} | (
    NEVER_AGAIN | NO_CONTACT | FINAL | HOST_TROUBLE | ITS_OWN_TIME | LINE_AWAY | NOT_FOR_IT
)


def trees() -> Iterator[ast.Module]:
    for path in (ROOT / "gatewayd").rglob("*.py"):
        yield ast.parse(path.read_text())


def texts(node: ast.AST | None) -> set[str]:
    return {
        one.value
        for one in ast.walk(node or ast.Pass())
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and CODE.fullmatch(one.value)
    }


def used() -> set[str]:
    """What stands as `code=…`, `default_code = …`, `…["code"] = …`, or as an argument of a decision."""
    found: set[str] = set()
    for node in (node for tree in trees() for node in ast.walk(tree)):
        match node:
            case ast.keyword(arg="code", value=ast.Constant() as value):
                found |= texts(value)
            case ast.Assign(
                targets=[ast.Name(id="default_code") | ast.Subscript(slice=ast.Constant(value="code"))]
            ):
                found |= texts(node.value)
            case ast.Call(func=ast.Name(id="Decision" | "_decision" | "EndJob")):
                found = found.union(*(texts(one) for one in node.args if isinstance(one, ast.Constant)))
    return found


def documented() -> list[str]:
    rows = re.findall(
        r"^\| `([^`]+)` \| (.+) \| (.+) \|$", (ROOT / "docs" / "codes.md").read_text(), re.MULTILINE
    )
    assert all(meaning and next_step for _, meaning, next_step in rows)
    return [code for code, _, _ in rows]


def test_every_code_is_documented() -> None:
    codes = used()
    assert {"qos0", "no_release", "withdrawn", "link_lost", "version_differs", "internal"} <= codes
    assert (codes | TABLES) - set(documented()) == set()


def test_what_is_documented_exists_and_is_said_once() -> None:
    everything = TABLES.union(*(texts(tree) for tree in trees()))
    assert set(documented()) - everything == set()
    assert len(documented()) == len(set(documented()))
