"""The keys of the configuration for its manual page, from the JSON Schema."""

import json
from collections.abc import Iterator
from typing import Any

from gatewayd.config.model import LINKS, Device
from gatewayd.config.schema import json_schema

Schema = dict[str, Any]
# A key, by its path in the section, and its description.
Key = tuple[str, str]

_TYPES = {"boolean": "true|false", "integer": "whole number", "number": "number", "string": "text"}


def all_keys() -> Iterator[tuple[str, str, list[Key]]]:
    """Return each section of the file: its name, what it is for, its keys."""
    schema = json_schema()
    definitions = schema["$defs"]
    for name, section in schema["properties"].items():
        named, listed = section.get("additionalProperties"), section.get("items")
        inner = _resolved(named or listed or section, definitions)
        text = section.get("description") or inner["description"]
        if name == "defaults":
            text += f": any key of `devices` but {', '.join(_no_defaults(definitions))}"
        if name == "devices":
            text += f". {', '.join(_needed_somewhere(inner))} are required, here or in `defaults`"
        keys = [] if name == "defaults" else list(_keys(inner, definitions))
        yield (f"{name}.NAME" if named else name), _sentence(text), keys


def _no_defaults(definitions: Schema) -> list[str]:
    """Return the keys of a device that `defaults` does not take: its name, and where it is."""
    device, defaults = (definitions[model]["properties"] for model in ("Device", "Defaults"))
    return [*(key for key in device if key not in defaults), *(f"link.{kind}" for kind in LINKS)]


def _needed_somewhere(device: Schema) -> list[str]:
    """Return the keys that every device needs, whether its own or from `defaults`."""
    fields = Device.model_fields.items()
    return [key for key, field in fields if field.is_required() and key not in device["required"]]


def _keys(schema: Schema, definitions: Schema, path: str = "", condition: str = "") -> Iterator[Key]:
    for name, value in schema["properties"].items():
        key, full = f"{path}{name}", _resolved(value, definitions)
        yield key, condition + _text(full, required=name in schema.get("required", ()))
        kinds = [one for one in _alternatives(full, definitions) if "properties" in one]
        for kind in kinds:
            only = f"With {kind['required'][0]}: " if len(kinds) > 1 else condition
            yield from _keys(kind, definitions, f"{key}.", only)


def _text(schema: Schema, *, required: bool) -> str:
    said = _sentence(schema["description"])
    facts = [_expected(schema)] if _expected(schema) else []
    if required:
        facts.append("required")
    elif schema.get("default") not in (None, [], "") and "Default:" not in said:
        facts.append("default: " + json.dumps(schema["default"]).strip('"'))
    return f"{said} [{'; '.join(facts)}]" if facts else said


def _expected(schema: Schema) -> str:
    """Describe the accepted values, as far as a few words can."""
    for one in schema.get("anyOf", ()):
        return _expected(one)
    if "enum" in schema:
        return "|".join(schema["enum"])
    if schema.get("format") == "path":
        return "path"
    kind = _TYPES.get(schema.get("type", ""), "")
    return f"{kind}, {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else kind


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "…")) else f"{text}."


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """Return the schema with its `$ref` resolved; keys beside the reference override it."""
    if "$ref" not in schema:
        return schema
    named: Schema = definitions[schema["$ref"].rpartition("/")[2]]
    return named | schema


def _alternatives(schema: Schema, definitions: Schema) -> list[Schema]:
    return [_resolved(one, definitions) for one in schema.get("anyOf") or schema.get("oneOf") or [schema]]
