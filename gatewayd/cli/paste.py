"""What a scan found, as YAML to paste: devices that answered, and everything else as comments."""

import json
import re
from collections.abc import Collection, Iterator

from gatewayd.errors import GatewaydError
from gatewayd.ota.topic import validate_app_id
from gatewayd.ota.version import Version
from gatewayd.scan import FoundDevice, FoundPort, ScanReport

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")
# What some reader of YAML takes for something else than a text.
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_LONGEST_STEM = 56  # of a name of at most 64 characters, so that a number has room


def to_yaml(report: ScanReport, names: Collection[str]) -> str:
    """Write the report; `names` are in use already."""
    taken = set(names)
    entries: list[str] = []
    remarks: list[str] = []
    for port in report.ports:
        remark = _remark(port)
        if remark is None and port.device is not None:
            entries += _entry(port.port, port.device, _new_name(port.device.app_id, taken))
        else:
            remarks.append(f"# {_one_line(remark or '')}")
    if not report.ports:
        remarks.append("# No serial ports are here; is the adapter plugged in?")
    head = ["devices:"] if entries else ["devices: []"]
    return "\n".join([*head, *entries, *remarks]) + "\n"


def _remark(port: FoundPort) -> str | None:
    """What to say of a port in a comment; None for a device to paste."""
    about = f" ({port.description})" if port.description else ""
    ours = f"is {port.configured_as} in the configuration; " if port.configured_as else ""
    if port.device is None:
        text = (port.text or "").removeprefix(port.port).removeprefix(port.node).strip()
        return f"{port.port}{about}: {ours}{text}" + (f" ({port.hint})" if port.hint else "")
    version = f" {port.device.version}" if port.device.version else ""
    answer = f"{port.device.app_id}{version} answers at {port.device.baud} baud"
    if port.configured_as:
        return f"{port.port}{about}: {ours}{answer}"
    try:
        validate_app_id(port.device.app_id)
    except GatewaydError as error:
        return f"{port.port}{about}: {answer}, and cannot be configured: {error}"
    return None


def _entry(port: str, device: FoundDevice, name: str) -> Iterator[str]:
    yield f"  - name: {_scalar(name)}"
    yield f"    app_id: {_scalar(device.app_id)}"
    if device.hardware_id is not None:
        yield f"    hardware_id: {_scalar(device.hardware_id)}"
    yield _version_line(device.version)
    yield "    # payload: advanced   # if its firmware comes in Sming's containers, and then"
    yield "    # keys: ...           # the key set that opens and verifies them"
    yield f"    link: {{uart: {_scalar(port)}, baud: {device.baud}}}"


def _version_line(version: str | None) -> str:
    try:
        return f'    version: "{Version.parse(version or "")}"'
    except GatewaydError:
        said = f"it says {version!r}" if version else "it did not say"
        return f'    # version: "1.0.0"    # fill in what it runs: {_one_line(said)}'


def _new_name(app_id: str, taken: set[str]) -> str:
    """Invent a name, and take it."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", app_id)[:_LONGEST_STEM]
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    taken.add(f"{stem}-{number}")
    return f"{stem}-{number}"


def _scalar(text: str) -> str:
    """Write a text so that every reader of YAML takes it for that text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    """What cannot end a comment or confuse a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
