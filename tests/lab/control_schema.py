"""docs/control.schema.json as the tests use it: stricter than clients should be, so that it omits nothing."""

import copy
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "control.schema.json"
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text())


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Let no object have a key that the schema does not name."""
    strict = copy.deepcopy(schema)
    for definition in strict["$defs"].values():
        if definition.get("type") == "object":
            definition["additionalProperties"] = False
    return strict


_STRICT = closed(SCHEMA)


def check(document: Any, schema: dict[str, Any]) -> None:
    """Raise jsonschema's ValidationError unless `document` is as `schema`, a part of the file, has it."""
    Draft202012Validator({"$defs": _STRICT["$defs"], **schema}).validate(document)


def check_reply(line: bytes | str) -> dict[str, Any]:
    """Return a reply, after comparing it with the schema."""
    document: dict[str, Any] = json.loads(line)
    check(document, {"$ref": "#/$defs/Reply"})
    return document


def check_printed(command: str, line: str) -> dict[str, Any]:
    """Return what a command printed with --json, after comparing it with the schema."""
    document: dict[str, Any] = json.loads(line)
    check(document, SCHEMA["printed"][command])
    return document
