"""The little of man(7) that manual pages need: each function returns lines."""

import re
from collections.abc import Iterable

# What roff would read as its own: the escape character, and signs that it would prettify.
_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_CODE = re.compile(r"`([^`]+)`")


def literal(text: str) -> str:
    """`text` as it is, whatever roff would make of it."""
    escaped = "".join(_SPECIAL.get(character, character) for character in text)
    return "\\&" + escaped if escaped.startswith(".") else escaped


def prose(text: str) -> str:
    """A text of one line, with what stands between backticks in bold."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(bold(part) if at % 2 else literal(part) for at, part in enumerate(parts))


def bold(text: str) -> str:
    """`text` in bold, within a line."""
    return f"\\fB{literal(text)}\\fR"


def title(name: str, section: str, date: str, source: str) -> list[str]:
    """How a page begins; no word in it is broken, as many are commands and paths."""
    return [f'.TH {name.upper()} {section} {date} "{source}"', ".nh", ".ad l"]


def heading(text: str) -> list[str]:
    """A section."""
    return [f".SH {text.upper()}"]


def subheading(text: str) -> list[str]:
    """A section in a section."""
    return [f".SS {literal(text)}"]


def paragraph(text: str) -> list[str]:
    """A paragraph of prose."""
    return [".PP", prose(text)]


def example(text: str) -> list[str]:
    """Lines that stay lines, indented."""
    return [".PP", ".RS 4", ".EX", *map(literal, text.splitlines()), ".EE", ".RE"]


def items(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Terms in bold, each with what it means."""
    return [line for term, text in pairs for line in (".TP", bold(term), prose(text))]


def document(lines: Iterable[str]) -> str:
    """Join the lines; the first paragraph of a section begins without being told to."""
    text = "".join(f"{line}\n" for line in lines)
    return re.sub(r"^(\.S[HS] .*\n)\.PP\n", r"\1", text, flags=re.MULTILINE)
