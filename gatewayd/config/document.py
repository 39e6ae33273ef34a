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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gatewayd.config import characters
from gatewayd.config.host import Host
from gatewayd.config.mistakes import ConfigErrors, KeyPath, Mistake, dotted
from gatewayd.config.traps import find_trap

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

# YAML parsers treat these differently: a byte order mark (dropped at the start, refused elsewhere), and the
# line ends of Unicode.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_TAB_INDENT = re.compile("^ *\t", re.MULTILINE)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_WORDS = {"true": True, "false": False, "null": None, "~": None}

# Tags of other programs -> what there is instead.
_TAGS = {
    "!secret": "Write the value itself; a password into a file of its own, named in password_file",
    "!include": "Put that part of the configuration into a file of its own, conf.d/NAME.yaml",
    "!include_dir_merge_list": "Put the parts into files of their own, conf.d/NAME.yaml",
    "!env_var": "Write ${hostname} or ${machine_id}; other variables are not read",
    "!env": "Write ${hostname} or ${machine_id}; other variables are not read",
}

# What a device is sent, to the byte, and what devices and brokers call themselves, perhaps oddly.
_EXCHANGES = {("send",), ("expect",)}
_FREE_TEXTS = {("username",), ("hardware_id",)}
# A message about odd characters names this many.
_ODD_SHOWN = 3

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
    is_start: bool = False
    unusable_keys: dict[str, list[Mistake]] = field(default_factory=dict)
    unusable_login: list[Mistake] = field(default_factory=list)
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

    def wrong_file(self, path: KeyPath, message: str, suggestion: str = "") -> None:
        """Note what is wrong with a file that the configuration names.

        They may be damaged or gone since the configuration was checked. At a start the files of a key set
        cost that key set alone, not devices that have other keys, or none; those for the broker cost the
        connection, not what is in the spool already.
        """
        mistake = self.mistake(path, message, suggestion)
        if self.is_start and path[0] == "keys":
            self.unusable_keys.setdefault(str(path[1]), []).append(mistake)
        elif self.is_start:
            self.unusable_login.append(mistake)
        else:
            self.note(mistake)

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
    lines = characters.Lines(text)
    events = yaml.parse(text, Loader=_LOADER)
    try:
        _Reader(document, events, lines).read()
    except yaml.YAMLError as error:
        document.mistakes.append(_syntax_mistake(file, error, lines))
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
        before = characters.Lines(text[: match.start()])
        line, column = len(before), len(before[-1]) + 1
        message = f"control character {characters.name(match[0])} in column {column}"
        raise ConfigErrors([Mistake(file, line, column, "", message, characters.cure(match[0]))])
    if tabs := [text.count("\n", 0, match.start()) + 1 for match in _TAB_INDENT.finditer(text)]:
        raise ConfigErrors(Mistake(file, n, 1, "", "a tab in the indentation", "Use spaces") for n in tabs)
    return text


def _syntax_mistake(file: Path, error: yaml.YAMLError, lines: Sequence[str]) -> Mistake:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    hint = next((hint for start, hint in _SYNTAX if problem.startswith(start)), "")
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    # What went wrong on a line is often noticed on the next one only.
    for number in (line - 1, line - 2):
        if odd := characters.first_odd_on(lines, number):
            hint = f"Line {number + 1} contains {odd}: {odd.cure[0].lower()}{odd.cure[1:]}"
            break
        if 0 <= number < len(lines) and "${" in lines[number]:
            hint = 'Put it in quotes within { } and [ ]: "${hostname}"'
            break
    return Mistake(file, line, column, "", f"is not valid YAML: {problem}", hint)


def _position(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


class _Reader:
    """Turns events into plain values. Recursive: DEPTH_LIMIT bounds it."""

    def __init__(self, document: Document, events: Iterator[yaml.Event], lines: Sequence[str]) -> None:
        self._document = document
        self._events = events
        self._lines = lines

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
            cure = _TAGS.get(tag, "Delete it; quote the value if it is text")
            self._refuse(event, path, f"the tag {tag} is not accepted", cure)
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
        if self._has_odd_characters(event, path):
            return BROKEN
        if event.style:  # quoted, or a block; for a plain scalar PyYAML gives None and libyaml ''
            return text
        if _INTEGER.fullmatch(text):
            return int(text)
        return _WORDS[text] if text in _WORDS else self._plain_text(event, path)

    def _has_odd_characters(self, event: Any, path: KeyPath) -> bool:
        """Note characters that are not what they look like; a name or path with one is of no use."""
        if path[-1:] in _EXCHANGES:
            return False
        start = event.start_mark.line, event.start_mark.column
        end = event.end_mark.line, event.end_mark.column
        odd = list(characters.find_in(self._lines, start, end, event.value))
        if not odd and event.style in ("'", '"'):
            odd = list(characters.blanks_at_ends(self._lines, start, end, event.value))
        if not odd:
            return False
        more = f" and {len(odd) - _ODD_SHOWN} more" if len(odd) > _ODD_SHOWN else ""
        where = f" of line {odd[0].line}" if odd[0].line != event.start_mark.line + 1 else ""
        found = ", ".join(map(str, odd[:_ODD_SHOWN])) + more + where
        problem = "begins or ends with" if odd[0].is_at_end else "contains"
        file, first = self._document.file, odd[0]
        mistake = Mistake(file, first.line, first.column, dotted(path), f"{problem} {found}", first.cure)
        if path[-1:] in _FREE_TEXTS or path[-2:] == ("ble", "name"):
            self._document.warnings.append(mistake)
            return False
        self._document.note(mistake)
        return True

    def _plain_text(self, event: Any, path: KeyPath) -> Any:
        """Return unquoted text, or BROKEN if some parser would take it for something else."""
        text: str = event.value
        if not text:
            self._refuse(event, path, "has no value", "Write one, or delete the key")
            return BROKEN
        if trap := find_trap(text, path):
            self._refuse(event, path, *trap)
            return BROKEN
        return text

    def _place(self, event: yaml.Event, path: KeyPath) -> None:
        self._document.places[path] = Place(self._document.file, *_position(event))
        if len(self._document.places) > VALUES_LIMIT:
            self._refuse(
                event, (), f"there are more than {VALUES_LIMIT} values", "This is not a configuration"
            )
            raise ConfigErrors(self._document.mistakes)
