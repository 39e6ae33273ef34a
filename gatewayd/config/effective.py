"""The effective configuration: every value with its default filled in, and where each was written.

The output is itself a valid configuration with the same meaning. Secret files are named, and their content is
never shown.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from gatewayd.config.checks import origin
from gatewayd.config.document import Document, Place
from gatewayd.config.mistakes import KeyPath, dotted
from gatewayd.config.model import Settings
from gatewayd.config.placeholders import escape

# Read from files, and never shown.
_SECRETS = {"password", "key_password"}


def effective(settings: Settings, *, mode: Literal["json", "python"] = "json") -> dict[str, Any]:
    """Return the whole configuration, with `defaults` merged into the devices; `json`: as plain values."""
    return {
        "gateway": settings.gateway.model_dump(mode=mode),
        "mqtt": settings.mqtt.model_dump(mode=mode, exclude=_SECRETS),
        "keys": {name: files.model_dump(mode=mode) for name, files in settings.key_files.items()},
        "adapters": {name: adapter.model_dump(mode=mode) for name, adapter in settings.adapters.items()},
        "devices": [device.model_dump(mode=mode) for device in settings.devices],
    }


def sources(document: Document, tree: dict[str, Any]) -> dict[str, Place | None]:
    """Return where each value in `tree` was written; None for a default."""
    return {dotted(path): _source(document, path) for path in _leaves(tree, ())}


def as_yaml(document: Document, tree: dict[str, Any]) -> str:
    """Format `tree` as YAML, with the source of each value in a comment."""
    read = ", ".join(_short(document, file) for file in document.files)
    heading = f"# {document.file} for {document.host.name}; read: {read}\n"
    return heading + "".join(f"{line}\n" for line in _lines(document, tree, (), ""))


def _source(document: Document, path: KeyPath) -> Place | None:
    """Find the place of a value, or of the text that was written in place of the enclosing mapping."""
    for end in range(len(path), 0, -1):
        written = path[:end]
        if written[0] == "devices" and end > 1:
            written = origin(document, int(path[1]), *path[2:end])
        if written in document.places:
            is_its_own = end == len(path) or not isinstance(_at(document.root, written), dict)
            return document.places[written] if is_its_own else None
    return None


def _at(root: Any, path: KeyPath) -> Any:
    for part in path:
        root = root[part]
    return root


def _is_leaf(value: Any) -> bool:
    """Whether a value is written on one line."""
    return not value or not isinstance(value, dict | list) or (isinstance(value, list) and _is_leaf(value[0]))


def _leaves(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    if _is_leaf(value):
        yield path
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(inner, (*path, key))


def _lines(document: Document, value: Any, path: KeyPath, indent: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, inner in enumerate(value):
            first, *rest = _lines(document, inner, (*path, index), "")
            yield f"{indent}- {first}"
            yield from (f"{indent}  {line}" for line in rest)
        return
    for key, inner in value.items():
        here = (*path, key)
        # People choose the names of key sets and adapters, and may choose `no` or `4.10`.
        name = _scalar(key) if path in {("keys",), ("adapters",)} else key
        if _is_leaf(inner):
            source = _source(document, here)
            where = f"{_short(document, source.file)}:{source.line}" if source else "default"
            yield f"{indent}{name}: {_scalar(inner)}  # {where}"
        else:
            yield f"{indent}{name}:"
            yield from _lines(document, inner, here, f"{indent}  ")


def _short(document: Document, file: Path) -> str:
    folder = document.file.parent
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def _scalar(value: Any) -> str:
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case int():
            return str(value)
        case float() if value.is_integer():  # a fraction can only be written as text: see document
            return str(int(value))
        case dict():
            return "{}"
        case list():
            return f"[{', '.join(map(_scalar, value))}]"
    text = escape(str(value))
    # Quoted, so that every parser takes it for text and no control character reaches a terminal.
    written: str = yaml.safe_dump(text, default_style='"', width=1 << 20, allow_unicode=text.isprintable())
    return written.rstrip("\n")
