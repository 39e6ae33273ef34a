"""The strict subset of YAML that a configuration may use, and the line and column of every key.

People and several programs read a configuration, and YAML lets them disagree: `no` is a boolean to one
parser and text to another, `4.10` becomes 4.1, `12:30` becomes 750, and the last of two equal keys silently
wins. So anything that two parsers could read differently is refused with an explanation. What remains is
mappings, lists, text, decimal integers, `true`, `false` and `null`.

This module reads PyYAML's events rather than its nodes or objects: events arrive one at a time, so depth can
be limited before it costs anything, and they still carry quotes, anchors, tags and lines.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gatewayd.config.host import Host
from gatewayd.config.mistakes import ConfigErrors, KeyPath, Mistake, dotted

# 200 devices with every key written out take about 150 KB.
SIZE_LIMIT_BYTES = 1 << 20
# The deepest place a configuration has is devices[0].link.wake.send: 4 levels.
DEPTH_LIMIT = 32
# Five times the count for 200 devices with every key written out. Each value costs memory, however short.
VALUES_LIMIT = 50_000
# More than anybody reads in one go; a megabyte can hold a quarter of a million.
MISTAKES_LIMIT = 100

# libyaml is ten times as fast. PyYAML can be built without it; the result is the same.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# A byte order mark is dropped at the start and refused elsewhere, where YAML parsers treat it differently.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_TAB_INDENT = re.compile("^ *\t", re.MULTILINE)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_WORDS = {"true": True, "false": False, "null": None, "~": None}
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")

# Unquoted values that YAML parsers disagree on: (pattern, the problem, what to write instead).
_TRAPS = [
    (
        re.compile(r"y|n|yes|no|on|off|true|false|null", re.IGNORECASE),
        "is true, false or null to some YAML parsers and text to others",
        'Write true, false or null; or put it in quotes if it is text: "{text}"',
    ),
    (_MAC, "looks like a MAC address, which YAML can read as a number", 'Put it in quotes: "{text}"'),
    (
        re.compile(
            r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        ),
        "without quotes is a decimal fraction (4.10 would become 4.1)",
        'Put text such as a version in quotes: "{text}"; numbers must be whole here',
    ),
    (
        re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE),
        "is not a usable number",
        'Put it in quotes if it is text: "{text}"',
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "is a base-60 number to some YAML parsers",
        'Put it in quotes if it is text: "{text}"',
    ),
    (
        re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"),
        "is a date to some YAML parsers",
        'Put it in quotes if it is text: "{text}"',
    ),
    (
        re.compile(r"[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[oObB][0-7_]+|[-+]?[0-9][0-9_]*"),
        "is not a plain decimal number of at most 19 digits",
        'Write it in decimal without _ or leading 0, or put it in quotes if it is text: "{text}"',
    ),
]

# How the message of libyaml or PyYAML starts -> what to do about it.
_SYNTAX = [
    ("mapping values are not allowed", "Check the indentation, and quote text that contains ': '"),
    ("did not find expected key", "Check the indentation: the keys of one mapping start in the same column"),
    ("expected <block end>", "Check the indentation: the keys of one mapping start in the same column"),
    ("could not find expected ':'", "Write a colon and a space after each key"),
    ("found character", "Quote text that starts with @, ` or %"),
    ("found unexpected end of stream", "A quote is never closed"),
    ("did not find expected ',' or ", "A [ or { is never closed, or a comma is missing"),
    ("expected ',' or ", "A [ or { is never closed, or a comma is missing"),
]


class _Broken:
    """Stands in for a value that was already refused, so that it is not reported twice."""

    def __repr__(self) -> str:
        return "BROKEN"


BROKEN = _Broken()


class Place(NamedTuple):
    """Where a key or an item was written; line and column count from 1."""

    file: Path
    line: int
    column: int


@dataclass
class Document:
    """A configuration as written, in one file or several: plain values, and where each was written.

    Relative paths start at the folder of `file`, even if they were written in another file.
    """

    file: Path
    host: Host = field(default_factory=Host.here)
    root: Any = None
    places: dict[KeyPath, Place] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    size_bytes: int = 0
    is_empty: bool = False

    def place(self, path: KeyPath) -> Place:
        """Return the place of `path`, or of the nearest enclosing key that was written."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(self.file, 0, 0))

    def mistake(self, path: KeyPath, message: str, suggestion: str = "") -> Mistake:
        """Describe a mistake at `path`."""
        return Mistake(*self.place(path), dotted(path), message, suggestion)

    def beside(self, path: KeyPath, other: KeyPath) -> str:
        """Return the line of `path` for a message about `other`; with the file if it is a different one."""
        place = self.place(path)
        is_near = place.file == self.place(other).file
        return f"line {place.line}" if is_near else f"{place.file}:{place.line}"

    def wrong(self, path: KeyPath, message: str, suggestion: str = "") -> None:
        """Note a mistake at `path`. Raises ConfigErrors like `note`."""
        self.note(self.mistake(path, message, suggestion))

    def note(self, mistake: Mistake) -> None:
        """Add a mistake. Raises ConfigErrors once there are MISTAKES_LIMIT."""
        if len(self.mistakes) == MISTAKES_LIMIT:
            message = f"there are more than {MISTAKES_LIMIT} mistakes; only the first are listed"
            self.mistakes.append(replace(mistake, key_path="", message=message, suggestion="Correct these"))
            raise ConfigErrors(self.mistakes)
        self.mistakes.append(mistake)


def read_document(file: Path) -> Document:
    """Read and parse `file`. Raises ConfigErrors if it is unusable; lesser mistakes are in `.mistakes`."""
    try:
        with file.open("rb") as stream:
            content = stream.read(SIZE_LIMIT_BYTES + 1)
            mode = os.fstat(stream.fileno()).st_mode
    except OSError as error:
        raise refusal(file, 0, f"cannot be read: {error.strerror}", _missing_hint(error)) from None
    document = parse_document(file, content)
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        document.note(open_to_all(file, mode))
    return document


def open_to_all(path: Path, mode: int) -> Mistake:
    """Describe a file or folder that anybody may change, and so decide what runs on the devices."""
    message = f"is writable by everybody (mode {mode & 0o7777:04o})"
    return Mistake(path, 0, 0, "", message, f"Run: chmod o-w {path}")


def parse_document(file: Path, content: bytes) -> Document:
    """Parse the bytes of a configuration; `file` is only named in messages. Raises as read_document."""
    text = _decode(file, content)
    document = Document(file, files=[file], size_bytes=len(content))
    events = yaml.parse(text, Loader=_LOADER)
    try:
        _Reader(document, events).read()
    except yaml.YAMLError as error:
        document.mistakes.append(_syntax_mistake(file, error))
        raise ConfigErrors(document.mistakes) from None
    except (ValueError, OverflowError):  # PyYAML without libyaml, at escapes such as "\UFFFFFFFF"
        document.mistakes.append(Mistake(file, 0, 0, "", "is not valid YAML: impossible character escape"))
        raise ConfigErrors(document.mistakes) from None
    return document


def refusal(file: Path, line: int, message: str, suggestion: str = "") -> ConfigErrors:
    """Return an exception with a single mistake; `line` 0 means the file as a whole."""
    return ConfigErrors([Mistake(file, line, 1 if line else 0, "", message, suggestion)])


def _missing_hint(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "Copy config.example.yaml there, or name another file with --config"
    return "Check its permissions" if isinstance(error, PermissionError) else ""


def _decode(file: Path, content: bytes) -> str:
    if len(content) > SIZE_LIMIT_BYTES:
        raise refusal(file, 0, f"is larger than {SIZE_LIMIT_BYTES} bytes", "This is not a configuration file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refusal(
            file, line, f"byte 0x{content[error.start]:02x} is not UTF-8", "Save the file as UTF-8"
        ) from None
    if match := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise refusal(file, line, f"control character {match[0]!r}", "Delete it")
    if tabs := [text.count("\n", 0, match.start()) + 1 for match in _TAB_INDENT.finditer(text)]:
        raise ConfigErrors(Mistake(file, n, 1, "", "a tab in the indentation", "Use spaces") for n in tabs)
    return text


def _syntax_mistake(file: Path, error: yaml.YAMLError) -> Mistake:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    hint = next((hint for start, hint in _SYNTAX if problem.startswith(start)), "")
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return Mistake(file, line, column, "", f"is not valid YAML: {problem}", hint)


def _position(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


class _Reader:
    """Turns events into plain values. Recursive: DEPTH_LIMIT bounds it."""

    def __init__(self, document: Document, events: Iterator[yaml.Event]) -> None:
        self._document = document
        self._events = events

    def read(self) -> None:
        next(self._events)  # the start of the stream
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            self._document.is_empty = True
            return
        if getattr(start, "version", None) or getattr(start, "tags", None):
            self._refuse(start, (), "% directives are not accepted", "Delete it")
        self._document.root = self._value(next(self._events), ())
        next(self._events)  # the end of the document
        second = next(self._events)
        if not isinstance(second, yaml.StreamEndEvent):
            self._refuse(second, (), "a second document starts here", "Delete the line ---")

    def _refuse(self, event: yaml.Event, path: KeyPath, message: str, suggestion: str = "") -> None:
        file, (line, column) = self._document.file, _position(event)
        self._document.note(Mistake(file, line, column, dotted(path), message, suggestion))

    def _value(self, event: Any, path: KeyPath) -> Any:
        if len(path) >= DEPTH_LIMIT:
            self._refuse(event, (), f"is nested more than {DEPTH_LIMIT} levels deep")
            raise ConfigErrors(self._document.mistakes)
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, path, f"the alias *{event.anchor} is not accepted", "Write the value out")
            return BROKEN
        if event.anchor:
            self._refuse(event, path, f"the anchor &{event.anchor} is not accepted", "Use defaults: instead")
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(
                event, path, f"the tag {tag} is not accepted", "Delete it; quote the value if it is text"
            )
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return BROKEN if event.tag else self._scalar(event, path)

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            here = (*path, len(items))
            self._place(event, here)
            items.append(self._value(event, here))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            if key is None or key in items:
                # The value is read only to skip it, and to report the mistakes in it.
                here = (*path, "?" if key is None else key)
                if key is not None:
                    line = self._document.places[here].line
                    self._refuse(
                        event, here, f"is written twice, first on line {line}", "Delete one of the two"
                    )
                self._value(next(self._events), here)
                continue
            here = (*path, key)
            self._place(event, here)
            items[key] = self._value(next(self._events), here)
        return items

    def _key(self, event: Any, path: KeyPath) -> str | None:
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event, path, "a key must be plain text", "Quote text that contains * & [ or {")
            if not isinstance(event, yaml.AliasEvent):
                self._value(event, (*path, "?"))
            return None
        if event.value == "<<" and not event.style:
            self._refuse(event, path, "the merge key << is not accepted", "Use defaults: instead")
            return None
        key = self._value(event, (*path, event.value))
        if isinstance(key, str):
            return key
        if key is not BROKEN:
            self._refuse(event, path, f"the key {event.value!r} is not text", "Put it in quotes")
        return None

    def _scalar(self, event: Any, path: KeyPath) -> Any:
        text: str = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._refuse(event, path, "contains half of a surrogate pair", "Write the character itself")
            return BROKEN
        if event.style:  # quoted, or a block; for a plain scalar PyYAML gives None and libyaml ''
            return text
        if _INTEGER.fullmatch(text):
            return int(text)
        return _WORDS[text] if text in _WORDS else self._plain_text(event, path)

    def _plain_text(self, event: Any, path: KeyPath) -> Any:
        """Return unquoted text, or BROKEN if some parser would take it for something else."""
        text: str = event.value
        if not text:
            self._refuse(event, path, "has no value", "Write one, or delete the key")
            return BROKEN
        for pattern, problem, suggestion in _TRAPS:
            if pattern.fullmatch(text):
                shown = "the value" if "password" in str(path[-1:]) else text[:80]
                self._refuse(event, path, f"{shown} {problem}", suggestion.format(text=shown))
                return BROKEN
        return text

    def _place(self, event: yaml.Event, path: KeyPath) -> None:
        self._document.places[path] = Place(self._document.file, *_position(event))
        if len(self._document.places) > VALUES_LIMIT:
            self._refuse(
                event, (), f"there are more than {VALUES_LIMIT} values", "This is not a configuration"
            )
            raise ConfigErrors(self._document.mistakes)
