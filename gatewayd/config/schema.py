"""The JSON Schema of a configuration, generated from the models, for completion and checks in editors.

It is a little looser than `load`: it cannot know whether a required value comes from `defaults:` or from
another file, and it checks each value by itself.
"""

import copy
import json
from typing import Any

from pydantic import TypeAdapter

from gatewayd.config.loader import ConfigFile
from gatewayd.config.model import (
    ADAPTER_PATTERN,
    LINKS,
    NAME_PATTERN,
    Adapter,
    Device,
    Gateway,
    KeyFiles,
    MqttSection,
)
from gatewayd.config.placeholders import NAMES

_DEFS = "#/$defs/{model}"
_NAME = {"pattern": NAME_PATTERN}


def json_schema() -> dict[str, Any]:
    """Build the schema: draft 2020-12, ready for json.dumps."""
    models = (Gateway, MqttSection, KeyFiles, Adapter, Device)
    inputs = [(model.__name__, "validation", TypeAdapter(model)) for model in models]
    _, generated = TypeAdapter.json_schemas(inputs, ref_template=_DEFS)  # type: ignore[arg-type]  # a list of literals
    definitions = tidy(generated["$defs"])
    definitions["Defaults"] = _defaults(definitions)
    definitions["Device"]["required"] = ["name", "link"]
    del definitions["MqttSection"]["required"]
    _let_placeholders_pass(definitions)
    reference = {name: {"$ref": _DEFS.format(model=name)} for name in definitions}
    properties = {
        "gateway": reference["Gateway"],
        "mqtt": reference["MqttSection"],
        "keys": {
            "type": "object",
            "propertyNames": _NAME,
            "additionalProperties": reference["KeyFiles"],
            "description": "Key sets by name; devices refer to them",
        },
        "adapters": {
            "type": "object",
            "propertyNames": {"pattern": ADAPTER_PATTERN},
            "additionalProperties": reference["Adapter"],
            "description": "Bluetooth adapters by name; others have the defaults",
        },
        "defaults": reference["Defaults"],
        "devices": {
            "type": "array",
            "items": reference["Device"],
            "description": "The devices behind this gateway",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of gatewayd",
        "type": "object",
        "additionalProperties": False,
        "properties": {key: properties[key] for key in ConfigFile.model_fields},
        "$defs": definitions,
    }


def schema_text() -> str:
    """Format the schema as in docs/config.schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _let_placeholders_pass(schema: Any) -> None:
    """Allow `${hostname}` and `${machine_id}` wherever a pattern is required."""
    for inner in schema if isinstance(schema, list) else schema.values():
        if isinstance(inner, dict) and isinstance(pattern := inner.get("pattern"), str):
            inner["pattern"] = f"{pattern}|\\$\\{{({'|'.join(NAMES)})\\}}"
        if isinstance(inner, dict | list):
            _let_placeholders_pass(inner)


def _defaults(definitions: dict[str, Any]) -> dict[str, Any]:
    """Build the schema of `defaults:`: a device without name, port and address, and nothing required."""
    defaults: dict[str, Any] = copy.deepcopy(definitions["Device"])
    del defaults["properties"]["name"], defaults["required"]
    defaults["description"] = "Settings for every device that does not override them"
    defaults["properties"]["link"] = {
        "type": "object",
        "additionalProperties": False,
        "description": "How devices are reached; each device takes the keys for its kind of link",
        "properties": _link_properties(definitions),
    }
    return defaults


def _link_properties(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of all kinds of link; a key that several share may have the form of any."""
    found: dict[str, list[Any]] = {}
    for model in LINKS.values():
        for key, schema in definitions[model.__name__]["properties"].items():
            if key not in LINKS:
                found.setdefault(key, []).append(copy.deepcopy(schema))
    return {key: each[0] if len(each) == 1 else {"anyOf": each} for key, each in found.items()}


def tidy(schema: Any) -> Any:
    """Drop redundant entries: pydantic's titles, and defaults of `null` and `true` that go without saying."""
    if isinstance(schema, list):
        return [tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: tidy(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
        and not (key == "default" and value is None)
        and not (key == "additionalProperties" and value is True)
    }
