"""The small part of man(7) that our manual pages need. Most functions return lines."""

import re
from collections.abc import Iterable

# The escape character, and characters that roff would replace by typographic ones.
_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_CODE = re.compile(r"`([^`]+)`")


def literal(text: str) -> str:
    """Escape `text`, so that roff prints it unchanged."""
    escaped = "".join(_SPECIAL.get(character, character) for character in text)
    return "\\&" + escaped if escaped.startswith(".") else escaped


def prose(text: str) -> str:
    """Format one line of text, with text in backticks in bold."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(bold(part) if at % 2 else literal(part) for at, part in enumerate(parts))


def bold(text: str) -> str:
    """Format `text` in bold, within a line."""
    return f"\\fB{literal(text)}\\fR"


def title(name: str, section: str, date: str, source: str) -> list[str]:
    """Begin a page. Hyphenation is off, because many words are commands and paths."""
    return [f'.TH {name.upper()} {section} {date} "{source}"', ".nh", ".ad l"]


def heading(text: str) -> list[str]:
    """Begin a section."""
    return [f".SH {text.upper()}"]


def subheading(text: str) -> list[str]:
    """Begin a subsection."""
    return [f".SS {literal(text)}"]


def paragraph(text: str) -> list[str]:
    """Format a paragraph of prose."""
    return [".PP", prose(text)]


def example(text: str) -> list[str]:
    """Format lines verbatim, indented."""
    return [".PP", ".RS 4", ".EX", *map(literal, text.splitlines()), ".EE", ".RE"]


def items(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Format a list of terms in bold, each with its description."""
    return [line for term, text in pairs for line in (".TP", bold(term), prose(text))]


def document(lines: Iterable[str]) -> str:
    """Join the lines, and drop the paragraph break after each heading."""
    text = "".join(f"{line}\n" for line in lines)
    return re.sub(r"^(\.S[HS] .*\n)\.PP\n", r"\1", text, flags=re.MULTILINE)
