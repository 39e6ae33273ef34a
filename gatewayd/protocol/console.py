"""Text that a device prints between frames: its console."""

import re

LONGEST_LINE = 200
LEAST_TEXT = 2  # fewer characters are noise
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def console_lines(run: bytes) -> list[str]:
    """Return the lines of text in bytes that are not a frame; binary noise has none."""
    lines = (_sanitised(line) for line in _ESCAPES.sub("", run.decode(errors="replace")).splitlines())
    return [line[at : at + LONGEST_LINE] for line in lines for at in range(0, len(line), LONGEST_LINE)]


def _sanitised(line: str) -> str:
    """Return a line with dots for unprintable characters; empty if they are more than a quarter."""
    line = line.strip()
    if 4 * line.count("\ufffd") > len(line):
        return ""  # rejects nearly all noise, far more cheaply than checking each character
    text = "".join(char if char.isprintable() and char != "\ufffd" else "\0" for char in line)
    is_text = len(text) >= LEAST_TEXT and 4 * text.count("\0") <= len(text)
    return text.replace("\0", ".") if is_text else ""
