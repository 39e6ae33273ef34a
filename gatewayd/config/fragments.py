"""config.yaml and the fragments in conf.d beside it, merged into one document.

The rule: config.yaml first, then conf.d/*.yaml in the order of their names, byte by byte. Each is laid over
what was read before it:

    two mappings        merged key by key
    `devices`           joined into one list
    anything else       the later one wins

Every file is strict YAML by itself. The size limits of a single file apply to each of them and to all of them
together. Editors and packages leave files behind in such a folder: hidden files, `*~` and `*.dpkg-*` are
ignored, and any other file that is not *.yaml causes a warning, because somebody may think that it counts.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gatewayd.config.document import (
    BROKEN,
    SIZE_LIMIT_BYTES,
    VALUES_LIMIT,
    Document,
    open_to_all,
    read_document,
    refusal,
)
from gatewayd.config.host import Host
from gatewayd.config.mistakes import ConfigErrors, KeyPath, Mistake
from gatewayd.config.placeholders import fill_in

FOLDER = "conf.d"
# A folder with more than this is not a folder of fragments.
FILES_LIMIT = 256
# A warning about ignored files names at most this many.
NAMES_SHOWN = 5
_LEFT_BEHIND = re.compile(r"\..*|.*~|.*\.dpkg-[a-z]+", re.DOTALL)


def read_all(file: Path, host: Host) -> Document:
    """Read `file` and its fragments as `host` would. Raises ConfigErrors if one of them is not valid YAML."""
    document = Document(file, host)
    files = [file, *_fragments(document)]
    for one in files:
        try:
            part = _read(one, is_fragment=one != file)
        except ConfigErrors as error:
            found = list(error.mistakes)
        else:
            _lay_over(document, part)
            found = part.mistakes
            document.warnings += part.warnings
        for mistake in found:
            document.note(mistake)
        _check_limits(document, one)
    if document.files != files:
        raise ConfigErrors(document.mistakes)
    fill_in(document)
    return document


def _fragments(document: Document) -> Iterator[Path]:
    """Yield the files of conf.d that count, and note what is wrong with the folder."""
    folder = document.file.parent / FOLDER
    try:
        mode = folder.stat().st_mode
        names = sorted(os.listdir(folder), key=os.fsencode)  # noqa: PTH208 - names are what is sorted
    except FileNotFoundError:
        return
    except OSError as error:
        hint = "It holds part of the configuration: check its permissions"
        document.note(Mistake(folder, 0, 0, "", f"cannot be read: {error.strerror}", hint))
        return
    if mode & stat.S_IWOTH:
        document.note(open_to_all(folder, mode))
    names = [name for name in names if not _LEFT_BEHIND.fullmatch(name)]
    counted = [name for name in names if _counts(name)]
    _warn_of(document, folder, [name for name in names if not _counts(name)])
    if len(counted) > FILES_LIMIT:
        document.note(Mistake(folder, 0, 0, "", f"holds more than {FILES_LIMIT} files", "Join some of them"))
        return
    yield from (folder / name for name in counted)


def _warn_of(document: Document, folder: Path, names: list[str]) -> None:
    """Warn of ignored files in conf.d: somebody may think that they count."""
    if names:
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        who = ", ".join(map(ascii, names[:NAMES_SHOWN])) + more
        message = f"only files named *.yaml are read; ignored: {who}"
        hint = "Rename it to end in .yaml, or move it away"
        document.warnings.append(Mistake(folder, 0, 0, "", message, hint))


def _counts(name: str) -> bool:
    """Whether a file of conf.d is part of the configuration."""
    return name.isprintable() and name.endswith(".yaml")


def _check_limits(document: Document, file: Path) -> None:
    """Raise ConfigErrors if the files up to this one exceed a limit together."""
    for amount, limit, what in (
        (document.size_bytes, SIZE_LIMIT_BYTES, "bytes"),
        (len(document.places), VALUES_LIMIT, "values"),
    ):
        if amount > limit:
            document.note(Mistake(file, 0, 0, "", f"brings the configuration to more than {limit} {what}"))
            raise ConfigErrors(document.mistakes)


def _read(file: Path, *, is_fragment: bool) -> Document:
    """Read one file. Raises ConfigErrors, also for a named pipe in conf.d, which could block."""
    if is_fragment and file.exists() and not file.is_file():
        raise refusal(file, 0, "is not a regular file", "Keep only regular files in conf.d")
    return read_document(file)


def _lay_over(document: Document, part: Document) -> None:
    """Merge a file over the files before it."""
    document.files.append(part.file)
    document.size_bytes += part.size_bytes
    if part.file == document.file:
        document.root, document.places, document.is_empty = part.root, part.places, part.is_empty
        return
    if not isinstance(part.root, dict):
        if not part.is_empty and part.root is not BROKEN:
            part.wrong((), "expected a mapping with keys such as devices")
        return
    if not isinstance(document.root, dict):
        return  # reported elsewhere
    replaced: set[KeyPath] = set()
    shift = _devices_so_far(document, part)
    document.root = _merged(document.root, part.root, (), replaced)
    _place(document, part, replaced, shift)


def _devices_so_far(document: Document, part: Document) -> int:
    before, more = document.root.get("devices"), part.root.get("devices")
    return len(before) if isinstance(before, list) and isinstance(more, list) else 0


def _merged(below: Any, above: Any, path: KeyPath, replaced: set[KeyPath]) -> Any:
    """Merge two values by the module's rule; add the paths where `above` replaced `below` to `replaced`."""
    if isinstance(below, dict) and isinstance(above, dict):
        merged = dict(below)
        for key, value in above.items():
            merged[key] = _merged(below[key], value, (*path, key), replaced) if key in below else value
        return merged
    if path == ("devices",) and isinstance(below, list):
        if isinstance(above, list):
            return below + above
    elif path == ("devices",):
        return below  # the loader reports it
    replaced.add(path)
    return above


def _place(document: Document, part: Document, replaced: set[KeyPath], shift: int) -> None:
    """Take over the places of the part's values. A mapping in several files keeps its first place."""
    if replaced:
        document.places = {
            path: place
            for path, place in document.places.items()
            if not any(path[:end] in replaced for end in range(1, len(path) + 1))
        }
    for path, place in part.places.items():
        moved = path
        if shift and path[0] == "devices" and len(path) > 1 and isinstance(path[1], int):
            moved = ("devices", path[1] + shift, *path[2:])
        document.places.setdefault(moved, place)
