"""Checks across the whole configuration: conflicts between sections, and warnings of risky choices."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any

from gatewayd.config.document import BROKEN, Document
from gatewayd.config.mistakes import KeyPath, Mistake
from gatewayd.config.model import BleSettings, Device, KeyFiles, Mqtt, UartSettings
from gatewayd.config.shared_ports import sharing_port
from gatewayd.config.validation import did_you_mean
from gatewayd.ota.keys import KeySet, find_shared_keys
from gatewayd.ota.rules import Deliver, Payload
from gatewayd.ota.topic import OtaTopic
from gatewayd.ota.topic_levels import collisions
from gatewayd.protocol.registry import PROTOCOLS

# A warning about 200 devices names this many.
_NAMES_SHOWN = 5
# The two highest bits of a random address that the device changes and a bond resolves.
_RESOLVABLE = 0b01

# A device with its place in the file: as checked, and as written (over the defaults).
Placed = tuple[int, Device]
Written = tuple[int, dict[str, Any]]


def check_names(devices: Sequence[Written], document: Document) -> None:
    """Refuse two devices with the same name, even if something else is wrong with one of them."""
    first: dict[str, int] = {}
    for index, written in devices:
        name = written.get("name")
        if not isinstance(name, str):
            continue
        if name in first:
            here, there = ("devices", index, "name"), ("devices", first[name], "name")
            message = f"{name} is also the name of devices[{first[name]}] ({document.beside(there, here)})"
            document.wrong(here, message, "Give each device a name of its own")
        first.setdefault(name, index)


def check_addresses(devices: Sequence[Written], document: Document) -> None:
    """Refuse two devices with the same Bluetooth address, name or service data to look for."""
    first: dict[str, int] = {}
    for index, written in devices:
        link = written.get("link")
        target = link.get("ble") if isinstance(link, dict) else None
        if target is None or target is BROKEN:
            continue
        who = target.upper() if isinstance(target, str) else json.dumps(target, sort_keys=True, default=str)
        if who in first:
            here, there = ("devices", index, "link", "ble"), ("devices", first[who], "link", "ble")
            where = document.beside(there, here)
            message = f"devices[{first[who]}] has the same Bluetooth target ({where})"
            document.wrong(here, message, "Give each device an address or a name of its own")
        first.setdefault(who, index)


def check_ports(devices: Sequence[Written], document: Document) -> None:
    """Refuse two devices on one port by the same name.

    Where two names lead depends on what is plugged in, and is judged when a port is opened: shared_ports.
    """
    first: dict[str, int] = {}
    for index, written in devices:
        link = written.get("link")
        uart = link.get("uart") if isinstance(link, dict) else None
        if not isinstance(uart, str) or "\0" in uart:
            continue
        port = str(PurePosixPath("/", uart.lstrip("/"))) if uart.startswith("/") else uart
        if port in first:
            here, there = ("devices", index, "link", "uart"), ("devices", first[port], "link", "uart")
            where = document.beside(there, here)
            message = f"{uart} is also the port of devices[{first[port]}] ({where})"
            document.wrong(here, message, "Give each device a port of its own")
        first.setdefault(port, index)


def check_keys(devices: Sequence[Written], names: Iterable[str], document: Document) -> None:
    """Refuse a device whose key set does not exist."""
    names = list(names)
    for index, written in devices:
        wanted = written.get("keys")
        if isinstance(wanted, str) and wanted not in names:
            suggestion = f"Known: {', '.join(names)}" if names else "There is no keys: section"
            document.wrong(
                origin(document, index, "keys"),
                f"there is no key set {wanted}",
                did_you_mean(wanted, names) or suggestion,
            )


def check_default_line(devices: Sequence[Placed], document: Document) -> None:
    """Refuse a line in `defaults:` for several applications: their versions have nothing in common."""
    where = ("defaults", "line")
    apps = sorted({device.app_id for _, device in devices})
    if where in document.places and len(apps) > 1:
        message = f"would hold for the applications {', '.join(apps)}"
        document.wrong(where, message, "Write line: to each device that it is meant for")


def check_shared_keys(devices: Sequence[Placed], key_sets: dict[str, KeySet], document: Document) -> None:
    """Refuse one key for two applications: each could be given the other's firmware."""
    users: dict[str, Placed] = {}
    apps: list[tuple[str, KeySet]] = []
    for index, device in devices:
        if device.keys in key_sets:
            users.setdefault(device.app_id, (index, device))
            apps.append((device.app_id, key_sets[device.keys]))
    for one, other in find_shared_keys(apps):
        name = users[other][1].keys or ""
        kind = "decryption" if key_sets[name].verify_key is None else "verification"
        document.wrong(
            origin(document, users[other][0], "keys"),
            f"the {kind} key of {name} serves the applications {one} and {other}, so either's firmware"
            " can be given to the other's devices",
            "Use a key for each, or set allow_shared_key: true in each key set concerned",
        )


def warnings(
    mqtt: Mqtt,
    devices: Sequence[Placed],
    keys: dict[str, KeyFiles],
    document: Document,
) -> list[Mistake]:
    """Return warnings about settings that work but are risky or have no effect."""
    return [
        *document.warnings,
        *_broker_warnings(mqtt, document),
        *_topic_warnings(mqtt, devices, document),
        *_key_warnings(keys, document),
        *_device_warnings(devices, keys, document),
        *_other_protocol_warnings(devices, document),
        *(_shared_port_warnings(devices, document) if document.host.is_here else []),
    ]


def origin(document: Document, index: int, *keys: str | int) -> KeyPath:
    """Return where a device's value was written: at the device or in `defaults:`; if nowhere, the device."""
    own: KeyPath = ("devices", index, *keys)
    shared: KeyPath = ("defaults", *keys)
    return shared if own not in document.places and shared in document.places else own


def _broker_warnings(mqtt: Mqtt, document: Document) -> list[Mistake]:
    found = []
    if mqtt.username is not None and mqtt.password_file is None:
        found.append(document.mistake(("mqtt", "username"), "has no password", "Give mqtt.password_file"))
    if mqtt.password_file is not None and mqtt.tls is None and not _is_local(mqtt.host):
        message = f"the password goes to {mqtt.host} unencrypted"
        suggestion = "Give mqtt.tls, or use a broker on this machine"
        found.append(document.mistake(("mqtt", "password_file"), message, suggestion))
    return found


def _topic_warnings(mqtt: Mqtt, devices: Sequence[Placed], document: Document) -> list[Mistake]:
    """Warn of names that cannot be told apart where the broker takes a dot for a level (RabbitMQ)."""
    if not any("." in device.app_id for _, device in devices):
        return []
    lines = {device.line or device.version.line for _, device in devices}
    places = {device.app_id: index for index, device in reversed(devices)}
    topics = {
        OtaTopic(device.app_id, *line, channel)
        for _, device in devices
        for line in lines
        for channel in device.channels
    }
    found = {}
    for one, other in collisions(mqtt.ota_topic, sorted(topics, key=mqtt.ota_topic.build)):
        dotted = other.app_id if "." in other.app_id else one.app_id
        texts = " and ".join(mqtt.ota_topic.build(topic) for topic in (one, other))
        if dotted in found:
            continue
        found[dotted] = document.mistake(
            origin(document, places[dotted], "app_id"),
            f"{texts} are one topic to a broker that takes a dot for a level (RabbitMQ)",
            "Use an app_id without dots, or another mqtt.ota_topic, with such a broker",
        )
    return list(found.values())


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key_warnings(keys: dict[str, KeyFiles], document: Document) -> list[Mistake]:
    message = "also holds the signing key: anyone who breaks into this gateway can sign firmware"
    suggestion = "Copy only decrypt.key.bin and verify.key.bin here"
    return [
        document.mistake(("keys", name, "ota_key_file"), message, suggestion)
        for name, files in keys.items()
        if files.ota_key_file
    ]


def _device_warnings(
    devices: Sequence[Placed], keys: dict[str, KeyFiles], document: Document
) -> list[Mistake]:
    """Return one warning for each kind and place, naming the devices."""
    found: dict[tuple[str, str, str], list[Placed]] = defaultdict(list)
    for placed in devices:
        for kind in _unwise(placed[1], keys):
            found[kind].append(placed)
    mistakes = []
    for (key, message, suggestion), placed_devices in found.items():
        path = origin(document, placed_devices[0][0], *key.split("."))
        mistakes.append(document.mistake(path, f"{message} ({_names(placed_devices)})", suggestion))
    return mistakes


def _names(placed: Sequence[Placed]) -> str:
    names = [device.name for _, device in placed]
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _unwise(device: Device, keys: dict[str, KeyFiles]) -> Iterable[tuple[str, str, str]]:
    files = keys.get(device.keys) if device.keys is not None else None
    can_verify = files is not None and bool(files.verify_key_file or files.ota_key_file)
    yield from _unwise_link(device)
    if device.payload is Payload.STANDARD:
        message = (
            "standard firmware has no signature and no anti-rollback mark:"
            " anyone who may publish decides what runs"
        )
        if device.keys is not None:
            message += "; keys has no effect"
        if device.deliver is Deliver.CONTAINER:
            message += "; deliver: container has no effect"
        yield "payload", message, "Use payload: advanced with keys"
    elif not can_verify:
        yield (
            "keys",
            "no verification key: a container's signature cannot be checked",
            "Give verify_key_file in keys",
        )
    elif device.allow_unsigned:
        yield (
            "allow_unsigned",
            "unsigned containers are accepted although the key set can verify signatures",
            "",
        )
    yield from _useless_image_checks(device)
    if device.allow_unsigned and not can_verify:
        yield "allow_unsigned", "has no effect without a verification key", "Delete it, or give keys"
    if device.line is not None and device.line < device.version.line and not device.allow_downgrade:
        message = f"{device.line} is below {device.version}, and older firmware is not accepted"
        yield "line", message, "Give allow_downgrade: true if that is meant"
    if device.allow_downgrade:
        yield "allow_downgrade", "older firmware is accepted", "Delete it once the downgrade is done"


def _unwise_link(device: Device) -> Iterable[tuple[str, str, str]]:
    kind = PROTOCOLS[device.protocol]
    if kind.caution:
        yield "protocol", kind.caution, kind.advice
    if device.device_id is not None and not kind.reports_device_id:
        yield (
            "device_id",
            f"a device with {kind.title} reports no serial number, so it is refused (wrong_device)",
            "Leave device_id out; hardware_id is compared with what the board says it is",
        )
    if isinstance(device.link, BleSettings) and not device.link.pair and device.deliver is Deliver.ROM:
        yield (
            "link.pair",
            "anyone in radio range can offer a device that does not pair other firmware",
            "Use pair: true, or deliver: container with a device that verifies the signature itself",
        )
    if isinstance(device.link, BleSettings) and _may_change(device.link):
        yield (
            "link.ble",
            "if this is a private address, the device changes it every few minutes",
            "If so, use its name with device_id, or pair: true",
        )
    if isinstance(device.link, BleSettings) and _is_found_by_name(device.link) and device.device_id is None:
        yield (
            "link.ble",
            "another device nearby of this name and app_id would get the firmware",
            "Give its address, or device_id",
        )
    if isinstance(device.link, UartSettings) and re.fullmatch(r"/dev/tty(USB|ACM)[0-9]+", device.link.uart):
        yield (
            "link.uart",
            "this number can change when devices are plugged in again",
            "Use /dev/serial/by-id/…",
        )


def _may_change(link: BleSettings) -> bool:
    """Whether an address looks like a resolvable private one; a public address may look so, too."""
    address = link.ble.address
    return address is not None and not link.pair and int(address[:2], 16) >> 6 == _RESOLVABLE


def _is_found_by_name(link: BleSettings) -> bool:
    """Whether nothing but a name tells the device from others."""
    target = link.ble
    return target.name is not None and target.address is None and target.service_data is None


def _other_protocol_warnings(devices: Sequence[Placed], document: Document) -> list[Mistake]:
    """Name settings of a protocol that the device does not have; in `defaults:` they are for others."""
    found = []
    for index, device in devices:
        for name in PROTOCOLS.keys() - {device.protocol}:
            path = ("devices", index, name)
            if path in document.places and getattr(device, name, None) is not None:
                message = f"has no effect with protocol: {device.protocol} ({device.name})"
                found.append(document.mistake(path, message, f"Give protocol: {name}, or delete it"))
    return found


def _shared_port_warnings(devices: Sequence[Placed], document: Document) -> list[Mistake]:
    """Name the devices that are not served while their names lead to one port."""
    found = []
    for index, device in devices:
        others = sharing_port(device, (other for _, other in devices))
        if others:
            path = ("devices", index, "link", "uart")
            names = ", ".join(other.name for other in others)
            message = f"leads to the port of {names} at the moment; neither is served while it does"
            found.append(document.mistake(path, message, "Name both by /dev/serial/by-path/…"))
    return found


def _useless_image_checks(device: Device) -> Iterable[tuple[str, str, str]]:
    if device.image_magic is not None and not device.image_check:
        yield "image_magic", "has no effect with image_check: false", "Delete one of the two"
    begins, magic = bytes.fromhex(device.image_magic or ""), PROTOCOLS[device.protocol].image_magic
    if magic and not (magic.startswith(begins) or begins.startswith(magic)):
        message = f"images for {PROTOCOLS[device.protocol].title} begin with {magic.hex()}: none is accepted"
        yield "image_magic", message, "Delete it"
    if device.image_magic is not None and device.payload is not Payload.STANDARD:
        yield "image_magic", "has no effect with payload: advanced", "Delete it"
