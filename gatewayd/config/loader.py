"""Load settings from a file and the fragments beside it.

Each section is checked by itself, so that a mistake in one does not hide a mistake in another. `defaults:` is
checked once, where it was written; then each device's own values are merged over it. `link` is merged key by
key: `defaults.link` may hold anything but `uart` and `ble`, because a port or address belongs to one device.
Each device takes from it the keys that apply to its own kind of link.
"""

import re
from pathlib import Path
from typing import Any

from gatewayd.config import checks
from gatewayd.config.document import BROKEN, Document
from gatewayd.config.files import read_key_set, read_password, read_tls
from gatewayd.config.foreign import adopt
from gatewayd.config.fragments import read_all
from gatewayd.config.host import Host
from gatewayd.config.mistakes import ConfigErrors, KeyPath, by_line
from gatewayd.config.model import (
    ADAPTER_PATTERN,
    LINKS,
    NAME_PATTERN,
    Adapter,
    Device,
    Gateway,
    KeyFiles,
    Mqtt,
    MqttSection,
    Section,
    Settings,
    link_kind,
)
from gatewayd.config.validation import check, note_error, note_unknown_key, validate, without_kind
from gatewayd.ota.keys import KeySet

DEFAULT_PORT, DEFAULT_TLS_PORT = 1883, 8883


class ConfigFile(Section):
    """The whole file."""

    gateway: Gateway
    mqtt: MqttSection
    keys: dict[str, KeyFiles]
    adapters: dict[str, Adapter]
    defaults: dict[str, Any]
    devices: list[Device]


def load_at_start(path: Path) -> Settings:
    """Read the configuration as `load` does, but for the files it names.

    What is wrong with key files is in `unusable_keys`, with those for the broker in `mqtt.unusable`.

    A configuration that was good when it was checked must not keep a whole gateway down after a reboot.
    Raises ConfigErrors for everything else.
    """
    document = read_all(path, Host.here())
    document.is_start = True
    return settle(document)


def with_login(settings: Settings) -> Settings:
    """Return these settings with the files for the broker read again. Raises ConfigErrors."""
    document, mqtt = Document(settings.file), settings.mqtt
    read: dict[str, Any] = {"password": read_password(mqtt, document), "unusable": ""}
    if mqtt.tls is not None:
        read["key_password"], read["tls_digest"] = read_tls(mqtt.tls, document)
    if document.mistakes:
        raise ConfigErrors(document.mistakes)
    return settings.model_copy(update={"mqtt": mqtt.model_copy(update=read)})


def load(path: Path, host: Host | None = None) -> Settings:
    """Read the configuration in `path` and the conf.d beside it, with the keys and the password it names.

    With `host`, as that host would read it; files of another host that are missing here are only warnings.
    Raises ConfigErrors.
    """
    return settle(read_all(path, host or Host.here()))


def settle(document: Document) -> Settings:
    """Turn a document into settings. Raises ConfigErrors with all mistakes."""
    adopt(document)
    root = _root(document)
    gateway = _gateway(document, root)
    mqtt = _mqtt(document, root, gateway)
    keys, key_sets = _keys(document, root)
    adapters = _adapters(document, root)
    written = _written_devices(document, root)
    checks.check_names(written, document)
    checks.check_ports(written, document)
    checks.check_addresses(written, document)
    checks.check_keys(written, root["keys"] if isinstance(root.get("keys"), dict) else {}, document)
    devices = _devices(document, written)
    checks.check_default_line(devices, document)
    checks.check_shared_keys(devices, key_sets, document)
    unusable = [mistake for found in document.unusable_keys.values() for mistake in found]
    unusable += document.unusable_login
    if document.mistakes or gateway is None or mqtt is None:
        raise ConfigErrors([*document.mistakes, *unusable])
    return Settings(
        file=document.file,
        files=tuple(document.files),
        gateway=gateway,
        mqtt=mqtt,
        devices=tuple(device for _, device in devices),
        adapters=adapters,
        key_files=keys,
        key_sets=key_sets,
        unusable_keys={name: str(found[0]) for name, found in document.unusable_keys.items()},
        warnings=by_line([*checks.warnings(mqtt, devices, keys, document), *unusable]),
    )


def _root(document: Document) -> dict[str, Any]:
    root = document.root
    if not isinstance(root, dict):
        if root is not BROKEN:
            is_not = "is empty" if document.is_empty else "expected a mapping with gateway, mqtt and devices"
            document.wrong((), is_not, "Start from config.example.yaml")
        raise ConfigErrors(document.mistakes)
    for key in root:
        if key not in ConfigFile.model_fields:
            note_unknown_key(document, (key,), ConfigFile.model_fields)
    if "devices" not in root:
        document.wrong(("devices",), "is missing", "Write devices: [] if there are none yet")
    return root


def _mapping(document: Document, parent: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return the mapping at `path`, or an empty one if it is absent or not a mapping."""
    value = parent.get(path[-1], {})
    if isinstance(value, dict):
        return value
    if value is not BROKEN:
        document.wrong(path, "expected a mapping of keys to values", "Write {} for an empty one")
    return {}


def _gateway(document: Document, root: dict[str, Any]) -> Gateway | None:
    written = root.get("gateway", {})
    if isinstance(written, dict):
        written = {"id": document.host.name, **written}
    return check(Gateway, written, document, ("gateway",))


def _mqtt(document: Document, root: dict[str, Any], gateway: Gateway | None) -> Mqtt | None:
    if "mqtt" not in root:
        document.wrong(("mqtt",), "is missing", "Give mqtt.host, the broker")
        return None
    written = root["mqtt"]
    if isinstance(written, dict) and gateway is not None:
        written = {"client_id": f"gatewayd-{gateway.id}", **written}
    section = check(MqttSection, written, document, ("mqtt",))
    if section is None:
        return None
    values: dict[str, Any] = {"port": DEFAULT_PORT} | {
        k: v for k, v in dict(section).items() if v is not None
    }
    if section.tls is not None:
        values["port"] = section.port or DEFAULT_TLS_PORT
        values["key_password"], values["tls_digest"] = read_tls(section.tls, document)
    password = read_password(section, document)
    unusable = str(document.unusable_login[0]) if document.unusable_login else ""
    return Mqtt(**values, password=password, unusable=unusable)


def _keys(document: Document, root: dict[str, Any]) -> tuple[dict[str, KeyFiles], dict[str, KeySet]]:
    keys: dict[str, KeyFiles] = {}
    key_sets: dict[str, KeySet] = {}
    for name, written in _mapping(document, root, "keys").items():
        path: KeyPath = ("keys", name)
        if not re.fullmatch(NAME_PATTERN, name):
            document.wrong(path, "expected a name of 1 to 64 of the characters A-Z a-z 0-9 . _ -")
        files = check(KeyFiles, written, document, path)
        key_set = files and read_key_set(files, document, path)
        if files:
            keys[name] = files
        if key_set and name not in document.unusable_keys:
            key_sets[name] = key_set
    return keys, key_sets


def _adapters(document: Document, root: dict[str, Any]) -> dict[str, Adapter]:
    adapters = {}
    for name, written in _mapping(document, root, "adapters").items():
        if not re.fullmatch(ADAPTER_PATTERN, name):
            document.wrong(
                ("adapters", name), "expected the name of an adapter such as hci0, or its address in capitals"
            )
        adapter = check(Adapter, written, document, ("adapters", name))
        if adapter:
            adapters[name] = adapter
    return adapters


def _written_devices(document: Document, root: dict[str, Any]) -> list[checks.Written]:
    """Check the defaults, and return each device's values merged over them."""
    defaults = _mapping(document, root, "defaults")
    _check_defaults(document, defaults)
    devices = root.get("devices", [])
    if not isinstance(devices, list):
        if devices is not BROKEN:
            document.wrong(("devices",), "expected a list", "Write devices: [] if there are none")
        return []
    written = []
    for index, own in enumerate(devices):
        if isinstance(own, dict):
            written.append((index, _over(defaults, own)))
        elif own is not BROKEN:
            document.wrong(("devices", index), "expected a mapping of keys to values", "Start with - name: …")
    return written


def _over(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Merge a device's values over the defaults."""
    shared = {key: value for key, value in defaults.items() if key != "name"}
    merged = shared | own
    if isinstance(shared.get("link"), dict):
        common = _common(shared["link"], link_kind(own.get("link")))
        merged["link"] = (
            common | own["link"] if isinstance(own.get("link"), dict) else own.get("link", common)
        )
    return merged


def _common(link: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the keys of `defaults.link` for one kind of link. Both have `wake`; Bluetooth's is text."""
    return {
        key: value
        for key, value in link.items()
        if key not in LINKS
        and key in LINKS[kind].model_fields
        and not (key == "wake" and isinstance(value, str) != (kind == "ble"))
    }


def _check_defaults(document: Document, defaults: dict[str, Any]) -> None:
    if "name" in defaults:
        document.wrong(("defaults", "name"), "a name belongs to a single device", "Move it to the device")
    link = defaults.get("link")
    for key in LINKS:
        if isinstance(link, dict) and key in link:
            what = "a port" if key == "uart" else "an address"
            document.wrong(
                ("defaults", "link", key), f"{what} belongs to a single device", "Move it to the device"
            )
    for error in validate(Device, defaults, document)[1]:
        if error["loc"][:1] != ("link",) and not _is_left_to_devices(error["type"], error["loc"]):
            note_error(Device, error, document, ("defaults",))
    _check_default_link(document, link)


def _check_default_link(document: Document, link: Any) -> None:
    """Check the keys for serial ports and those for Bluetooth, each against its own model."""
    if not isinstance(link, dict):
        if link is not None and link is not BROKEN:
            document.wrong(("defaults", "link"), "expected a mapping of keys to values")
        return
    known = {key for model in LINKS.values() for key in model.model_fields}
    for key in link:
        if key not in known:
            note_unknown_key(document, ("defaults", "link", key), sorted(known - set(LINKS)))
    for kind, model in LINKS.items():
        for error in validate(model, _common(link, kind), document)[1]:
            if error["loc"] != (kind,):
                note_error(model, error, document, ("defaults", "link"))


def _is_left_to_devices(kind: str, loc: KeyPath) -> bool:
    """Whether this is not a mistake in `defaults:`, or one that is reported already."""
    return loc == ("name",) or (kind == "missing" and len(loc) == 1)


def _devices(document: Document, written: list[checks.Written]) -> list[checks.Placed]:
    placed = []
    for index, values in written:
        device, errors = validate(Device, values, document)
        if device is not None:
            placed.append((index, device))
        for error in errors:
            if not _is_reported_in_defaults(document, index, error["type"], error["loc"]):
                note_error(Device, error, document, ("devices", index))
    return placed


def _is_reported_in_defaults(document: Document, index: int, kind: str, loc: KeyPath) -> bool:
    """Whether a device's mistake was written in `defaults:`, where it is reported once."""
    loc = without_kind(loc)
    if kind == "missing":
        loc = loc[:-1]
        if loc in {(), ("link",)}:
            return False
    return checks.origin(document, index, *loc)[0] == "defaults"
