"""What is wrong with a configuration, and where."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gatewayd.errors import ConfigError

KeyPath = tuple[str | int, ...]

# Longer than any real key, and enough of any other to find it.
_SHOWN_CHARACTERS = 80


def dotted(path: KeyPath) -> str:
    """Format a key path as people write it: `devices[1].link.baud`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_shortened(part)}"
    return text.removeprefix(".")


def _shortened(key: str) -> str:
    return key if len(key) <= _SHOWN_CHARACTERS else f"{key[:_SHOWN_CHARACTERS]}…"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to correct, or in a warning, to know.

    Attributes:
        file: the file as it was named.
        line: from 1; 0 for the file as a whole.
        column: from 1; 0 as above.
        key_path: such as `devices[1].link.baud`; empty if it is not about a key.
        message: what was expected and what was found; never a secret.
        suggestion: the next step; may be empty.
    """

    file: Path
    line: int
    column: int
    key_path: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        parts = [place, self.key_path, self.message] if self.key_path else [place, self.message]
        text = f"{': '.join(parts)}."
        if not self.suggestion:
            return text
        end = "" if self.suggestion.endswith(("?", "…")) else "."
        return f"{text} {self.suggestion[0].upper()}{self.suggestion[1:]}{end}"


class ConfigErrors(ConfigError):  # noqa: N818 - it holds several, which its name says
    """Every mistake in one configuration, sorted by place."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = by_line(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def by_line(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """Sort by place, with files in the order they are read: config.yaml before those in conf.d."""
    return tuple(sorted(mistakes, key=_place))


def _place(mistake: Mistake) -> tuple[int, bytes, int, int, str]:
    file = mistake.file
    return len(file.parts), os.fsencode(file), mistake.line, mistake.column, mistake.key_path
