"""Format sizes, times and tables for people."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

import click

KIB = 1024
_WIDEST = 120
# The indentation of columns that wrap below their row.
_INDENT = 4


def size(count: int | None) -> str:
    """Format bytes: `195.3 KiB`."""
    if count is None:
        return "-"
    if count < KIB:
        return f"{count} B"
    return f"{count / KIB:.1f} KiB" if count < KIB * KIB else f"{count / KIB / KIB:.1f} MiB"


def speed(bytes_per_s: int | None) -> str:
    """Format bytes per second."""
    return "" if bytes_per_s is None else f"{size(bytes_per_s)}/s"


def duration(seconds: float | None) -> str:
    """Format a time span: `3.2 s`, `9 s`, `0:59`, `1:02:03`; tenths only for a short, exact one."""
    if seconds is None:
        return ""
    if seconds < 10:  # noqa: PLR2004 - below it tenths matter
        return f"{seconds} s" if isinstance(seconds, int) else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(count: int, noun: str) -> str:
    """Format a count: `1 device`, `2 devices`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def because(code: str | None, reason: str | None) -> str:
    """Format `code: reason`, or whichever of them is given."""
    return ": ".join(part for part in (code, reason) if part)


def printable(text: str | None) -> str:
    """Replace control characters: devices and publishers may send anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text or "")


def echo(text: str = "", **style: Any) -> None:
    """Print lines safely, without control characters; styled if there is a terminal."""
    click.secho("\n".join(map(printable, text.split("\n"))), **style)


def is_on_terminal() -> bool:
    """Whether standard output is a terminal; it may also be closed (`>&-`)."""
    output: TextIO | None = sys.stdout
    return output is not None and output.isatty()


def width() -> int:
    """Return the terminal's width; 0 if there is none, and lines are not wrapped."""
    return min(shutil.get_terminal_size().columns, _WIDEST) if is_on_terminal() else 0


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table: left-justified, with two blanks between them.

    On a narrow terminal one blank is used; if that is still too wide, the last columns wrap below.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    limit = width()
    gap = 1 if limit and sum(widths) + 2 * (len(widths) - 1) > limit else 2
    parts = _parts(widths, gap, limit)
    return [
        "\n".join(line for part in parts if (line := _row(row, widths, gap, part)) or part[0] == 0)
        for row in rows
    ]


def indented(text: str, by: int = 2, *, label: str = "") -> str:
    """Indent a sentence, after a label if given, and wrap it to the terminal if there is one."""
    first = label.ljust(by)
    if not width():
        return first + text
    return textwrap.fill(
        text,
        width(),
        initial_indent=first,
        subsequent_indent=" " * by,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _parts(widths: Sequence[int], gap: int, limit: int) -> list[range]:
    """Group the columns into lines; a single group if there is no limit."""
    starts, used = [0], widths[0]
    for number, wide in enumerate(widths[1:], 1):
        used += gap + wide
        if limit and used > limit:
            starts.append(number)
            used = _INDENT + wide
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(widths)], strict=True)]


def _row(row: Sequence[str], widths: Sequence[int], gap: int, part: range) -> str:
    line = (" " * gap).join(row[number].ljust(widths[number]) for number in part)
    return (line if part[0] == 0 else " " * _INDENT + line).rstrip()
