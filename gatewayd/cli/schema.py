"""The JSON Schema of everything sent over the control socket or printed with --json.

`python -m gatewayd.cli.schema > docs/control.schema.json` regenerates it. Objects in answers and printed
output allow keys that a later version may add; requests do not.
"""

import json
from typing import Any

import click
from pydantic import BaseModel, TypeAdapter

from gatewayd.cli.output import run_program
from gatewayd.cli.report import (
    CommandFailed,
    ConfigBad,
    ConfigGood,
    EffectiveConfig,
    GatewayForgotten,
    HomeAssistantCleared,
    KeysMade,
    Packed,
    PasswordSet,
    PinReport,
    Published,
    Withdrawn,
)
from gatewayd.config.schema import tidy
from gatewayd.control import messages, metrics_messages, replies, requests
from gatewayd.doctor import DoctorReport
from gatewayd.fleet.status import FleetStatus
from gatewayd.scan.ble import BleReport
from gatewayd.scan.uart import ScanReport

_DEFS = "#/$defs/{model}"
_REQUESTS: tuple[type[BaseModel], ...] = (
    requests.Status,
    requests.Devices,
    requests.Watch,
    requests.Jobs,
    requests.OneJob,
    requests.ExplainMessage,
    requests.ExplainDevice,
    requests.Suspended,
    requests.Push,
    requests.Steer,
    requests.Hold,
    requests.Reload,
    requests.CheckConfig,
    requests.Metrics,
)
# The model that --json prints, by command.
PRINTED: dict[str, type[BaseModel]] = {
    "approve": messages.OutcomesResult,
    "cancel": messages.OutcomesResult,
    "check-config": ConfigGood,
    "config": EffectiveConfig,
    "devices": messages.DevicesResult,
    "doctor": DoctorReport,
    "explain DEVICE": messages.ExplainDeviceResult,
    "explain TOPIC MESSAGE": messages.ExplainMessageResult,
    "explain --suspended": messages.SuspendedResult,
    "fleet clear-home-assistant": HomeAssistantCleared,
    "fleet forget": GatewayForgotten,
    "fleet status": FleetStatus,
    "job": messages.JobResult,
    "jobs": messages.JobsResult,
    "keygen": KeysMade,
    "pack": Packed,
    "metrics": metrics_messages.MetricsResult,
    "pause": messages.OutcomesResult,
    "pin": PinReport,
    "publish": Published,
    "push": messages.OutcomesResult,
    "reload": messages.ReloadResult,
    "resume": messages.OutcomesResult,
    "retry": messages.OutcomesResult,
    "scan ble": BleReport,
    "scan uart": ScanReport,
    "watch": messages.WatchResult,
    "web-password": PasswordSet,
    "withdraw": Withdrawn,
}


def json_schema() -> dict[str, Any]:
    """Build the schema, draft 2020-12: a line on the socket; `printed` has what each command prints."""
    said: list[type[BaseModel]] = [
        messages.StatusResult,
        messages.CheckConfigResult,
        replies.Success,
        replies.Failure,
        *PRINTED.values(),
        CommandFailed,
        ConfigBad,
    ]
    adapters = [(model.__name__, "validation", TypeAdapter(model)) for model in _REQUESTS]
    adapters += [(model.__name__, "serialization", TypeAdapter(model)) for model in dict.fromkeys(said)]
    _, generated = TypeAdapter.json_schemas(adapters, ref_template=_DEFS)  # type: ignore[arg-type]  # a list of literals
    definitions = tidy(generated["$defs"])
    reference = {name: {"$ref": _DEFS.format(model=name)} for name in definitions}
    definitions["Request"] = {"oneOf": [reference[model.__name__] for model in _REQUESTS]}
    for model in _REQUESTS:  # `op` has a default only in Python; on the wire it is required
        definitions[model.__name__]["required"] = sorted(
            {"op", *definitions[model.__name__].get("required", ())}
        )
    definitions["Reply"] = {"oneOf": [reference["Success"], reference["Failure"]]}
    printed = {
        name: {"anyOf": [reference[of.__name__], reference["CommandFailed"]]} for name, of in PRINTED.items()
    }
    printed["check-config"]["anyOf"].append(reference["ConfigBad"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The control socket of gatewayd, and what gatewayctl prints with --json",
        "description": "A line on the socket, version 1; `printed` has what each command prints",
        "anyOf": [{"$ref": _DEFS.format(model=name)} for name in ("Request", "Reply")],
        "printed": printed,
        "$defs": definitions,
    }


def schema_text() -> str:
    """Format the schema as in docs/control.schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    run_program("gatewayd.cli.schema", lambda: click.echo(schema_text(), nl=False))
