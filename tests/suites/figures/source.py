"""What the text of a package says: its size, its functions, and the codes it compares with."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE = "codes.py"  # the one place that may classify codes
LONG_FILE, LONG_FUNCTION = 400, 40
_NOT_CODES = frozenset({"state", "name"})
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

    Literals count in a comparison (`==`, `!=`, `in`, `not in`), in a `case` and in a set. Some words are also
    something else, and do not count where that shows: a state or a name is compared, or the set has members
    that are no codes.
    """
    found = {
        (path, node.lineno, node.col_offset, node.value)
        for path, tree in source.trees.items()
        if path != TABLE
        for node in _deciding(tree, codes)
        if node.value in codes
    }
    return [f"{path}:{line} {code}" for path, line, _, code in sorted(found)]


def _deciding(tree: ast.Module, codes: frozenset[str]) -> Iterator[ast.Constant]:
    """Yield the string literals that something is compared with."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare() if not _is_something_else(node.left):
                for operand in (node.left, *node.comparators):
                    yield from _literals(operand)
            case ast.Match() if not _is_something_else(node.subject):
                for part in ast.walk(node):
                    if isinstance(part, ast.MatchValue):
                        yield from _literals(part.value)
            case ast.Set() | ast.Call(func=ast.Name(id="set" | "frozenset")):
                arguments = [node] if isinstance(node, ast.Set) else node.args
                members = [literal for one in arguments for literal in _literals(one)]
                if all(member.value in codes for member in members):
                    yield from members


def _is_something_else(subject: ast.expr) -> bool:
    """Whether what is compared is a state or a name, by its own name."""
    match subject:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _NOT_CODES
        case _:
            return False


def _literals(node: ast.expr) -> Iterator[ast.Constant]:
    match node:
        case ast.Constant(value=str()):
            yield node
        case ast.Set() | ast.Tuple() | ast.List():
            for element in node.elts:
                yield from _literals(element)
