"""Print the result of a scan as YAML to paste: devices that answered, and the rest as comments."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from gatewayd.cli.local_devices import LocalDevices
from gatewayd.errors import GatewaydError
from gatewayd.ota.topic import validate_app_id
from gatewayd.ota.version import Version
from gatewayd.protocol.registry import DEFAULT_PROTOCOL, PROTOCOLS
from gatewayd.scan.answers import Answer
from gatewayd.scan.uart import FoundPort, ScanReport

if TYPE_CHECKING:
    from gatewayd.scan.ble import BleReport, HeardDevice

_TITLES = " or ".join(kind.title for kind in PROTOCOLS.values() if kind.gatt is not None)
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")
# Words that some YAML parsers take for something other than text.
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_LONGEST_STEM = 56  # names have at most 64 characters; this leaves room for a number


def uart_to_yaml(report: ScanReport, names: Collection[str]) -> str:
    """Format the report; `names` are already in use."""
    taken = set(names)
    entries: list[str] = []
    remarks: list[str] = []
    for port in report.ports:
        remark = _port_remark(port)
        if remark is None and port.device is not None:
            link = f"{{uart: {_scalar(port.port)}, baud: {port.device.baud}}}"
            name = _new_name(port.device.app_id or "device", taken)
            entries += _entry(port.device, port.device.protocol, name, link, port.device.settings)
        else:
            remarks.append(remark or "")
    if not report.ports:
        remarks.append("No serial ports were found; check that the adapter is plugged in")
    return _document(entries, remarks)


def ble_to_yaml(report: "BleReport", known: LocalDevices) -> str:
    """Format the report; the names in `known` are already in use."""
    taken = known.names
    entries: list[str] = []
    remarks: list[str] = []
    for heard in report.devices:
        remark = _ble_remark(heard)
        if remark is None:
            stem = (heard.device and heard.device.app_id) or heard.name or "tag"
            entries.append(f"  # {_one_line(_about(heard))}")
            # That which --ask would use.
            protocol = heard.protocols[0] if heard.device is None else heard.device.protocol
            link = f"{{ble: {_scalar(heard.address)}}}"
            entries += _entry(heard.device, protocol, _new_name(stem, taken), link)
        else:
            remarks.append(remark)
    for name in report.not_heard:
        why = (
            known.claimed.get(name) or f"check that {known.targets[name]} is on, in range, and not connected"
        )
        remarks.append(f"{name} was not found: {why}")
    if not report.devices:
        remarks.append(
            f"No device that advertises {_TITLES} was found;"
            " --all lists every device, --seconds 60 listens longer"
        )
    return _document(entries, remarks)


def _document(entries: list[str], remarks: list[str]) -> str:
    head = ["devices:"] if entries else ["devices: []"]
    return "\n".join([*head, *entries, *(f"# {_one_line(remark)}" for remark in remarks)]) + "\n"


def _port_remark(port: FoundPort) -> str | None:
    """Return a comment on a port; None if it has a device to paste."""
    about = f" ({port.description})" if port.description else ""
    ours = f"is {port.configured_as} in the configuration; " if port.configured_as else ""
    if port.device is None:
        text = (port.text or "").removeprefix(port.port).removeprefix(port.node).strip()
        return f"{port.port}{about}: {ours}{_with_hint(text, port.hint)}"
    answer = f"{_self_description(port.device)} answers at {port.device.baud} baud"
    if port.configured_as:
        return f"{port.port}{about}: {ours}{answer}"
    obstacle = _obstacle(port.device)
    return obstacle and f"{port.port}{about}: {answer}, and cannot be configured: {obstacle}"


def _ble_remark(heard: "HeardDevice") -> str | None:
    """Return a comment on a device; None if it is one to paste."""
    obstacle = heard.device and _obstacle(heard.device)
    if heard.protocols and not (heard.configured_as or heard.code or obstacle):
        return None
    said = [f"is {heard.configured_as} in the configuration"] if heard.configured_as else []
    if heard.code is not None:
        said.append(_with_hint(heard.text or "", heard.hint))
    elif heard.device is not None:
        answer = f"{_self_description(heard.device)} answers"
        said.append(f"{answer}, and cannot be configured: {obstacle}" if obstacle else answer)
    elif not heard.protocols:
        said.append(f"does not advertise {_TITLES}")
    return f"{_about(heard)}: {'; '.join(said)}"


def _about(heard: "HeardDevice") -> str:
    return " ".join(filter(None, (heard.address, heard.name, f"({heard.rssi_dbm} dBm)")))


def _with_hint(text: str, hint: str | None) -> str:
    return f"{text} ({hint})" if hint else text


def _self_description(device: Answer) -> str:
    return " ".join(filter(None, (device.app_id, device.version))) or "a device"


def _obstacle(device: Answer) -> str | None:
    """Return why the device cannot be configured, if so."""
    try:
        validate_app_id(device.app_id or "unknown")
    except GatewaydError as error:
        return str(error)
    return None


def _entry(
    device: Answer | None, protocol: str, name: str, link: str, settings: Mapping[str, str] | None = None
) -> Iterator[str]:
    yield f"  - name: {_scalar(name)}"
    if device is None:
        yield "    # app_id: pump         # fill in its application, or scan with --ask"
        yield '    # version: "1.0.0"     # and the version it runs'
    else:
        if device.app_id is None:
            yield "    # app_id: pump         # fill in its application: the device does not report it"
        else:
            yield f"    app_id: {_scalar(device.app_id)}"
        if device.hardware_id is not None:
            yield f"    hardware_id: {_scalar(device.hardware_id)}"
        yield _version_line(device.version)
    if protocol != DEFAULT_PROTOCOL:
        yield f"    protocol: {_scalar(protocol)}"
    if settings:
        chosen = ", ".join(f"{name}: {_scalar(value)}" for name, value in settings.items())
        yield f"    {protocol}: {{{chosen}}}"
    yield "    # payload: advanced   # if its firmware comes in Sming containers; then also"
    yield "    # keys: ...           # the key set that decrypts and verifies them"
    yield f"    link: {link}"


def _version_line(version: str | None) -> str:
    try:
        return f'    version: "{Version.parse(version or "")}"'
    except GatewaydError:
        said = f"it reports {version!r}" if version else "it does not report it"
        return f'    # version: "1.0.0"    # fill in the version it runs: {_one_line(said)}'


def _new_name(app_id: str, taken: set[str]) -> str:
    """Invent a name that is not in use, and add it to `taken`."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", app_id)[:_LONGEST_STEM]
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    taken.add(f"{stem}-{number}")
    return f"{stem}-{number}"


def _scalar(text: str) -> str:
    """Quote text if some YAML parser might take it for something else."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    """Replace characters that would end a comment or confuse a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
