"""Check sections of the file against their models, and word each mistake for the person who wrote it."""

import difflib
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gatewayd.config.corrections import corrected_magic, corrected_number, corrected_text, corrected_truth
from gatewayd.config.document import BROKEN, Document
from gatewayd.config.mistakes import KeyPath
from gatewayd.config.model import ADAPTER_PATTERN, HEX_PATTERN, LINKS, NAME_PATTERN, UUID_PATTERN

M = TypeVar("M", bound=BaseModel)

# Keys that deserve a better answer than "unknown".
_KNOWN_KEYS = {
    "ble": ("a device has one link", "Give uart or ble, not both"),
    "password": (
        "does not belong in this file",
        "Put it into a file of its own and name that file in password_file",
    ),
}
# pydantic's error types -> what was expected.
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "list_type": "a list",
    "path_type": "a path",
}


_PATTERNS = {
    NAME_PATTERN: "1 to 64 of the characters A-Z a-z 0-9 . _ -",
    ADAPTER_PATTERN: "the name of an adapter such as hci0, or its address in capitals",
    UUID_PATTERN: "a UUID with all its 32 digits",
    HEX_PATTERN: "pairs of hex digits",
}


def check(model: type[M], value: Any, document: Document, path: KeyPath) -> M | None:
    """Return `value` as a `model`; or note every mistake in the document and return None."""
    result, errors = validate(model, value, document)
    for error in errors:
        note_error(model, error, document, path)
    return result


def validate(model: type[M], value: Any, document: Document) -> tuple[M | None, list[ErrorDetails]]:
    """Return `value` as a `model`, or None and the errors. Relative paths start at the file's folder."""
    if value is BROKEN:
        return None, []
    try:
        return model.model_validate(value, context={"folder": document.file.absolute().parent}), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
        return None, [one for one in errors if one["input"] is not BROKEN or one["type"] == "extra_forbidden"]


def note_error(model: type[BaseModel], error: ErrorDetails, document: Document, path: KeyPath) -> None:
    """Note the mistake behind `error`, found in a `model` at `path`."""
    key = str(error["loc"][-1]) if error["loc"] else ""
    here = (*path, *without_kind(error["loc"]))
    kind, value = error["type"], error["input"]
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        note_unknown_key(document, here, _fields_at(model, error["loc"][:-1]))
    elif kind == "missing":
        suggestion = "Give uart, a serial port, or ble, a Bluetooth address" if key == "uart" else ""
        document.wrong(here, "is missing", suggestion or _description(model, error["loc"]))
    elif kind in {"literal_error", "enum"}:
        choices = context["expected"].replace("'", "")
        words = choices.replace(" or ", ", ").split(", ")
        document.wrong(here, f"expected {choices}, got {_shown(value)}", did_you_mean(str(value), words))
    elif kind == "value_refused":
        document.wrong(here, context["message"], context["suggestion"])
    else:
        document.wrong(
            here, f"expected {_expected(kind, context)}, got {_shown(value)}", _correction(kind, key, value)
        )


def note_unknown_key(document: Document, path: KeyPath, known: Iterable[str]) -> None:
    """Note a key that has no meaning in this place. Its value is not shown: it may be a secret."""
    key = str(path[-1])
    if key in _KNOWN_KEYS:
        document.wrong(path, *_KNOWN_KEYS[key])
        return
    known = tuple(known)
    suggestion = did_you_mean(key, known) or f"Known here: {', '.join(known)}"
    document.wrong(path, "is not a known key", suggestion)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the closest of `known`; "" if none is close."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {matches[0]}?" if matches else ""


def _expected(kind: str, context: dict[str, Any]) -> str:
    match kind:
        case "greater_than_equal":
            return f"{context['ge']:g} or more"
        case "less_than_equal":
            return f"{context['le']:.12g} or less"
        case "string_too_short":
            return "text that is not empty"
        case "string_too_long":
            return f"at most {context['max_length']} characters"
        case "string_pattern_mismatch":
            return _PATTERNS.get(context["pattern"], "a different format")
    return _EXPECTED.get(kind, kind.replace("_", " "))


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int():
            return f"the number {value}"
        case str():
            return repr(value) if len(value) <= 80 else f"text of {len(value)} characters"  # noqa: PLR2004
        case list():
            return "a list"
    return "a mapping"


def _correction(kind: str, key: str, value: Any) -> str:
    """Say what to write instead, where that is plain."""
    if kind == "int_type" and isinstance(value, str):
        return corrected_number(value)
    if kind in {"string_type", "path_type"} and isinstance(value, bool | int):
        written = str(value).lower()
        return corrected_text(key, written) or f'Put it in quotes: "{written}"'
    if kind == "bool_type" and isinstance(value, str | int):
        return corrected_truth(str(value))
    if kind == "model_type" and value is True:
        return f"Write {key}: {{}}"
    if kind == "string_pattern_mismatch" and key == "image_magic":
        return corrected_magic(value)
    return ""


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def without_kind(loc: KeyPath) -> KeyPath:
    """Drop the kind of link from pydantic's location: that level does not exist in the file."""
    return (loc[0], *loc[2:]) if loc[:1] == ("link",) else loc


def _model_at(model: type[BaseModel], loc: KeyPath) -> type[BaseModel]:
    if loc[:1] == ("link",) and len(loc) > 1:
        return _model_at(LINKS[str(loc[1])], loc[2:])
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = _model_of(field.annotation) if field else None
        model = inner or model
    return model


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    return list(_model_at(model, loc).model_fields)


def _description(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    field = _model_at(model, loc[:-1]).model_fields.get(str(loc[-1]))
    return field.description or "" if field else ""
