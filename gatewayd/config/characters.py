r"""Characters that a person does not see, or takes for others, in names, paths and texts.

They come with what is copied from a web page, a chat or a word processor, and look right in every editor.
What is written as an escape ("\u2013") is visible, and is meant.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

_DASHES = "\u2212\ufe58\ufe63\uff0d\u30fc"
_QUOTES = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00b4\u2032\u2033\u00ab\u00bb"
_SLASHES = "\u2044\u2215\u29f8\u2571"
_COLONS = "\u2236\ua789\u02d0\ufe55"
_DOTS = "\u2024\u00b7\u2027\u3002"
_ELLIPSIS = "\u2026"
_CURES = (
    (_DASHES, "Type a plain - in its place"),
    (_QUOTES, "Type a plain quotation mark in its place"),
    (_SLASHES, "Type a plain / in its place"),
    (_COLONS, "Type a plain : in its place"),
    (_DOTS, "Type a plain . in its place"),
    (_ELLIPSIS, "Write the text out"),
)
# Drawn as nothing, although not all are of a category that says so.
_BLANKS = "\u034f\u115f\u1160\u2800\u3164\uffa0"
_INVISIBLE = {"Cf", "Zl", "Zp", "Co", "Cn"}
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)
_FULL_WIDTH = range(0xFF01, 0xFF5F)
_FULL_WIDTH_OFFSET = 0xFEE0
# Letters of other alphabets that look like those of ours, and which.
_CYRILLIC = dict(
    zip(
        "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u051b\u051d\u0410"
        "\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0406\u0408\u0405\u051c",
        "aeopcyxijsdhqwABEKMHOPCTYXIJSW",
        strict=True,
    )
)
_GREEK = dict(
    zip(
        "\u03bf\u03b1\u03bd\u03ba\u03c1\u03c5\u03b9\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c"
        "\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
        "oavkpuiABEZHIKMNOPTYX",
        strict=True,
    )
)
_TWINS = _CYRILLIC | _GREEK
_BREAK = re.compile("\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Oddity:
    """A character and where it stands; `line` and `column` from 1. `is_at_end`: a space at either end."""

    character: str
    line: int
    column: int
    is_at_end: bool = False

    def __str__(self) -> str:
        return f"{name(self.character)} in column {self.column}"

    @property
    def cure(self) -> str:
        """What to type instead."""
        return "Delete it" if self.is_at_end else cure(self.character)


class Lines(Sequence[str]):
    """The lines of a text, split where YAML does; two numbers each until they are asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts, self._ends = array("I", [0]), array("I")
        for match in _BREAK.finditer(text):
            self._ends.append(match.start())
            self._starts.append(match.end())
        self._ends.append(len(text))

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[one] for one in range(len(self))[at]]
        return self._text[self._starts[at] : self._ends[at]]


def name(character: str) -> str:
    """Name a character as Unicode does: `U+2013 EN DASH`."""
    called = "BYTE ORDER MARK" if character == "\ufeff" else unicodedata.name(character, "")
    return f"U+{ord(character):04X} {called}".rstrip()


def cure(character: str) -> str:
    """Say what to type instead of one of `odd_in`."""
    if (twin := _TWINS.get(character)) or ord(character) in _FULL_WIDTH:
        return f"Type a plain {twin or chr(ord(character) - _FULL_WIDTH_OFFSET)} in its place"
    for group, advice in _CURES:
        if character in group:
            return advice
    category = unicodedata.category(character)
    if category in ("Mn", "Mc") and not _is_invisible(character):
        return "Type the letter and its accent as one character"
    return {
        "Zs": "Type an ordinary space in its place, or delete it",
        "Pd": "Type a plain - in its place",
    }.get(category, "Delete it")


def odd_in(text: str) -> list[str]:
    """Return the characters of `text` that are not what they look like, or not to be seen, in their order."""
    if text.isascii():
        return []
    letters = [character for character in text if character.isalpha()]
    # A whole word in another alphabet is what it looks like.
    is_disguised = all(letter.isascii() or letter in _TWINS for letter in letters)
    odd = [one for one in text if _is_odd(one) or (is_disguised and one in _TWINS)]
    if not odd and unicodedata.normalize("NFC", text) != text:
        odd = [character for character in text if unicodedata.combining(character)]
    return odd


def find_in(
    lines: Sequence[str], start: tuple[int, int], end: tuple[int, int], value: str
) -> Iterator[Oddity]:
    """Find where the odd characters of `value` stand between two places, lines and columns from 0."""
    odd = odd_in(value)
    if odd:
        wanted = set(odd)
        for line, column, character in _between(lines, start, end):
            if character in wanted:
                yield Oddity(character, line + 1, column + 1)


def blanks_at_ends(
    lines: Sequence[str], start: tuple[int, int], end: tuple[int, int], value: str
) -> Iterator[Oddity]:
    """Find blanks behind the opening and before the closing quote, which stand at these places."""
    inside = list(_between(lines, start, end))[1:-1]
    for is_there, at in ((value[:1] in (" ", "\t"), 0), (value[-1:] in (" ", "\t"), -1)):
        if is_there and inside and inside[at][2] in (" ", "\t"):
            line, column, character = inside[at]
            yield Oddity(character, line + 1, column + 1, is_at_end=True)


def first_odd_on(lines: Sequence[str], line: int) -> Oddity | None:
    """Return the first odd character on a line, from 0; None: there is none."""
    if not 0 <= line < len(lines):
        return None
    written = lines[line]
    return next(find_in(lines, (line, 0), (line, len(written)), written), None)


def _is_odd(character: str) -> bool:
    if character.isascii():
        return False
    return (
        _is_invisible(character)
        or unicodedata.category(character) == "Pd"
        or character in _DASHES + _QUOTES + _SLASHES + _COLONS + _DOTS + _ELLIPSIS
        or ord(character) in _FULL_WIDTH
    )


def _is_invisible(character: str) -> bool:
    return (
        unicodedata.category(character) in _INVISIBLE | {"Zs"}
        or character in _BLANKS
        or ord(character) in _VARIATION_SELECTORS
    )


def _between(
    lines: Sequence[str], start: tuple[int, int], end: tuple[int, int]
) -> Iterator[tuple[int, int, str]]:
    """Yield line, column and character from one place to another, which is not included."""
    for line in range(start[0], min(end[0] + 1, len(lines))):
        first = start[1] if line == start[0] else 0
        last = end[1] if line == end[0] else len(lines[line])
        for column, character in enumerate(lines[line][first:last], first):
            yield line, column, character
