"""Read values that another version of gatewayd wrote, or that a failing card has changed.

A stored value outlives the version that wrote it. So an unknown field is ignored, a missing one has its
default, and one that cannot be read is treated as missing and reported. Only if a value would be meaningless
or dangerous without a field (`essential`) is the whole value unreadable: a verdict without its code would
read as genuine.

What is readable follows from the type hints of a dataclass: int, float, str, bool, bytes (as hex), enums,
dataclasses, image ids, tuples of one type, and each of them or None. Numbers may be decimal text
(see rows.py).
"""

import json
import math
import re
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from gatewayd.errors import GatewaydError
from gatewayd.protocol.image import ImageId

T = TypeVar("T")

_DIGEST = re.compile("[0-9a-f]{64}")
_NEUTRAL: dict[type, Any] = {int: 0, float: 0.0, str: "", bool: False, bytes: b""}


class UnreadableError(ValueError):
    """A value that cannot be used."""


@dataclass(frozen=True, slots=True)
class Format(Generic[T]):
    """How values of one dataclass are stored.

    `checks` raise ValueError or GatewaydError for an invalid value of the right type. `earlier` converts
    the fields that earlier versions wrote to those of today.
    """

    cls: type[T]
    essential: Collection[str] = ()
    checks: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)
    earlier: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict

    def read(self, stored: object) -> tuple[T, list[str]]:
        """Return the value, and the fields that could not be read. Raises UnreadableError."""
        if not isinstance(stored, Mapping):
            raise UnreadableError(f"expected fields, got {type(stored).__name__}")
        stored = self.earlier(stored)
        hints = _hints(self.cls)  # type: ignore[arg-type]  # types are hashable
        values: dict[str, Any] = {}
        unread: list[str] = []
        for one in fields(self.cls):  # type: ignore[arg-type]  # a dataclass; no type says so
            if one.name not in stored:
                if one.name in self.essential:
                    raise UnreadableError(f"{one.name} is missing")
                values[one.name] = _default(one, hints[one.name])
                continue
            try:
                values[one.name] = _convert(stored[one.name], hints[one.name])
                self.checks.get(one.name, lambda _: None)(values[one.name])
            except (ValueError, GatewaydError) as error:
                if one.name in self.essential:
                    raise UnreadableError(f"{one.name}: {error}") from None
                unread.append(f"{one.name}: {error}")
                values[one.name] = _default(one, hints[one.name])
        return self.cls(**values), unread

    def read_json(self, text: object) -> tuple[T, list[str]]:
        """Read what `write_json` made. Raises UnreadableError."""
        try:
            stored = json.loads(text) if isinstance(text, str) else text
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"not JSON: {error}") from None
        return self.read(stored)


def write_json(value: Any) -> str:
    """Write a dataclass as text."""
    return json.dumps(_plain(value))


def digest_or_nothing(text: str) -> None:
    """Raise ValueError unless `text` is a SHA-256 in hex, or empty."""
    if text and not _DIGEST.fullmatch(text):
        raise UnreadableError("expected 64 hex digits")


def a_digest(text: str) -> None:
    """Raise ValueError unless `text` is a SHA-256 in hex."""
    digest_or_nothing(text or "none")


def _default(one: "Field[Any]", hint: Any) -> Any:
    if one.default is not MISSING:
        return one.default
    if one.default_factory is not MISSING:
        return one.default_factory()
    if type(None) in get_args(hint):
        return None
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    if hint in _NEUTRAL:
        return _NEUTRAL[hint]
    raise UnreadableError(f"{one.name} is missing")


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def _plain(value: Any) -> Any:
    """Convert a value to what JSON can hold."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, ImageId):
        return str(value)
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _convert(value: Any, hint: Any) -> Any:
    """Convert `value` to the type `hint`. Raises ValueError."""
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        options = [one for one in get_args(hint) if one is not type(None)]
        hint = type(value) if type(value) in options else options[0]
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise UnreadableError(f"expected a list, got {_shown(value)}")
        return tuple(_convert(one, get_args(hint)[0]) for one in value)
    if hint is ImageId:
        return ImageId.parse(_str(value))
    if is_dataclass(hint):
        return _whole(hint, value)
    if issubclass(hint, Enum):
        return hint(value)
    return _CONVERTERS[hint](value)


def _whole(cls: Any, value: Any) -> Any:
    """Read a dataclass within another. It must be readable in full.

    Fields without a default are essential; those that came later have one.
    """
    essential = [one.name for one in fields(cls) if one.default is MISSING]
    read, unread = Format(cls, essential=essential).read(value)
    if unread:
        raise UnreadableError(", ".join(unread))
    return read


def _int(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnreadableError(f"expected a whole number, got {_shown(value)}")
    return value


def _float(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UnreadableError(f"expected a number, got {_shown(value)}")
    return float(value)


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise UnreadableError(f"expected text, got {_shown(value)}")
    value.encode()  # half a surrogate pair, which JSON can hold, raises a ValueError: it could not be printed
    return value


def _bool(value: Any) -> bool:
    if value not in (0, 1):  # False and True among them
        raise UnreadableError(f"expected true or false, got {_shown(value)}")
    return bool(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else bytes.fromhex(_str(value))


_CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    int: _int,
    float: _float,
    str: _str,
    bool: _bool,
    bytes: _bytes,
}


def _shown(value: Any) -> str:
    """Show enough of a value to recognise it."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - characters on a line of a log
