"""What the text of a package says: its size, its functions, and the codes it compares with."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE = "codes.py"  # the one place that may classify codes
LONG_FILE, LONG_FUNCTION = 400, 40
_ROW = re.compile(r"^\| `([a-z][a-z0-9_]*)` \|", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Length:
    """How long something is, and where."""

    lines: int
    where: str

    def __str__(self) -> str:
        return f"{self.lines} ({self.where})"


@dataclass(frozen=True)
class Source:
    """A package's files, by their paths within it."""

    trees: dict[str, ast.Module]
    files: list[Length]

    @property
    def functions(self) -> list[Length]:
        """Every function and method, nested ones too, without its decorators."""
        return [
            Length((node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.name}")
            for path, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]


def read(package: Path) -> Source:
    """Read all Python files of a package."""
    texts = {
        str(path.relative_to(package)): path.read_text(encoding="utf-8")
        for path in sorted(package.rglob("*.py"))
    }
    return Source(
        {path: ast.parse(text) for path, text in texts.items()},
        [Length(len(text.splitlines()), path) for path, text in texts.items()],
    )


def documented_codes(page: Path) -> frozenset[str]:
    """Return the codes of docs/codes.md."""
    return frozenset(_ROW.findall(page.read_text(encoding="utf-8")))


def compared_codes(source: Source, codes: frozenset[str]) -> list[str]:
    """Return where, outside the table, a literal that is a code decides something: `path:line code`.

    Literals count in a comparison (`==`, `!=`, `in`, `not in`), in a `case` and in a set. A word that is also
    something else (the name of a field, a state) counts too: what it stands for cannot be seen here.
    """
    found = {
        (path, node.lineno, node.col_offset, node.value)
        for path, tree in source.trees.items()
        if path != TABLE
        for node in _deciding(tree)
        if node.value in codes
    }
    return [f"{path}:{line} {code}" for path, line, _, code in sorted(found)]


def _deciding(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the string literals that something is compared with."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                for operand in (node.left, *node.comparators):
                    yield from _literals(operand)
            case ast.MatchValue():
                yield from _literals(node.value)
            case ast.Set():
                yield from _literals(node)
            case ast.Call(func=ast.Name(id="set" | "frozenset")):
                for argument in node.args:
                    yield from _literals(argument)


def _literals(node: ast.expr) -> Iterator[ast.Constant]:
    match node:
        case ast.Constant(value=str()):
            yield node
        case ast.Set() | ast.Tuple() | ast.List():
            for element in node.elts:
                yield from _literals(element)
