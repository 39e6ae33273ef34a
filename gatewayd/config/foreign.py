"""What people bring along from other programs: keys by their names, and devices written as a mapping.

Each is told once, with our name for it, and then read as if it had been written our way, so that what else is
wrong is told at the same time. Nothing that is read so is ever in force: the mistake stays.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewayd.config.corrections import in_network, is_in_network
from gatewayd.config.document import BROKEN, Document
from gatewayd.config.mistakes import KeyPath, dotted

_LINE = "gatewayd always uses 8 data bits, no parity, 1 stop bit (8N1) and no flow control"
# Compared with keys in lower case, without - and _: each program has its own spelling.
LINE_SETTING = re.compile(
    r".*(flow|parity|stopbit|databit|bytesize|charsize|wordlen|handshake|xon|xoff|rtscts|dsrdtr).*"
    r"|cts|dsr|mode|bits|csize|[5-8][neoms][12]",
)
# Such values say what gatewayd does anyway.
_USUAL = {"8", "1", "n", "none", "no", "off", "false", "8n1", ""}


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one part of the file. `ours`: their key -> our path there; `hints`: what to do instead."""

    ours: Mapping[str, KeyPath] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)


def _each(names: str, meaning: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), meaning)


# Keys of a port in the network.
_HOSTS = ("host", "hostname", "ip", "ip_address", "tcp", "socket", "url", "rfc2217", "telnet")
_PORTS = "port serial serial_port serialport tty device_path"
_BAUDS = "baudrate baud_rate baud-rate bauds speed serial_baudrate"
_ADDRESSES = "mac mac_address mac-address bluetooth bluetooth_address ieee_address"

_HOME_ASSISTANT = "mqtt: {home_assistant: {}} makes devices appear in Home Assistant"

MQTT = Keys(
    ours=_each("server broker hostname host_name address url uri broker_url broker_host", ("host",))
    | _each("user user_name login", ("username",))
    | _each("base_topic topic_prefix root_topic", ("status_topic",))
    | _each("clientid clientId client-id", ("client_id",))
    | _each("ca ca_cert ca_certs ca_file cafile certificate certificate_authority", ("tls", "ca_file"))
    | _each("cert certfile cert_file client_cert", ("tls", "cert_file"))
    | _each("keyfile key_file client_key", ("tls", "key_file"))
    | _each("pins", ("tls", "pins"))
    | _each("discovery_prefix discovery_topic", ("home_assistant", "prefix")),
    hints=_each("pass passwd pw", "Put it into a file of its own and name that: password_file")
    | _each("ssl use_tls", "Write tls: {} for TLS with the system's certificate authorities")
    | _each(
        "tls_insecure insecure reject_unauthorized skip_cert_cn_check certificate_check",
        "Delete it: certificates are always checked; tls.pins trusts a key of your own",
    )
    | _each("discovery homeassistant", f"Delete it; {_HOME_ASSISTANT}")
    | _each("keepalive keep_alive qos retain clean_session", "Delete it: gatewayd decides that itself"),
)
DEVICE = Keys(
    ours=_each(_PORTS, ("link", "uart"))
    | _each(f"baud {_BAUDS}", ("link", "baud"))
    | _each(_ADDRESSES, ("link", "ble"))
    | {
        key: ("link", key)
        for key in ("uart", "ble", "adapter", "pair", "transfer_baud", "dtr", "rts", "wake")
    }
    | _each("id friendly_name device_name", ("name",))
    | _each("app application application_id", ("app_id",))
    | _each("firmware_version sw_version current_version installed_version artifact_name", ("version",))
    | _each("hardware hw_version device_type compatible_devices board model", ("hardware_id",))
    | _each("key key_set", ("keys",)),
    hints=_each("platform type", "Delete it: link says how the device is reached"),
)
LINK = Keys(
    ours=_each(f"{_PORTS} device path", ("uart",))
    | _each(_BAUDS, ("baud",))
    | _each(f"{_ADDRESSES} address", ("ble",)),
)
KEY_SET = Keys(
    ours=_each("verify_key public_key ArtifactVerifyKey", ("verify_key_file",))
    | _each("decrypt_key aes_key", ("decrypt_key_file",))
    | _each("ota_key", ("ota_key_file",)),
)
ROOT = Keys(
    ours={"device": ("devices",), "broker": ("mqtt", "host"), "server": ("mqtt", "host")},
    hints=_each("serial uart port", "A port belongs to a device: link: {uart: …, baud: …}")
    | _each(
        "connection connections accepter connector", "A port belongs to a device: link: {uart: …, baud: …}"
    )
    | _each("ArtifactVerifyKey ArtifactVerifyKeys", "Write keys: {NAME: {verify_key_file: …}}")
    | _each("ServerURL Servers", "Firmware comes by MQTT: write mqtt: {host: …}")
    | _each("DeviceTypeFile", "A device's kind is its hardware_id, in devices")
    | _each("UpdatePollIntervalSeconds", "Write mqtt: {connect: {every: …}}; without it updates come at once")
    | _each("homeassistant home_assistant", f"Delete it; {_HOME_ASSISTANT}")
    | _each("esphome substitutions", "Delete it: it belongs to ESPHome")
    | _each("wifi api ota logger", "Delete it: it belongs to a device's own firmware")
    | _each("frontend advanced permit_join availability", "Delete it: it belongs to zigbee2mqtt"),
)
GATEWAY = Keys(ours=_each("name hostname gateway_id", ("id",)) | _each("data_dir state", ("state_dir",)))
ADAPTER = Keys(ours=_each("max connections slots connection_slots", ("max_connections",)))
# A mapping with one of these is a device, and not devices by their names.
_OF_A_DEVICE = {"name", "app_id", "version", "link", *DEVICE.ours} - {"id"}


def adopt(document: Document) -> None:
    """Read what is written in another program's way as if it were written in ours, after noting each."""
    root = document.root
    if not isinstance(root, dict):
        return
    _translate(document, root, (), ROOT)
    _translate(document, root.get("mqtt"), ("mqtt",), MQTT)
    _translate(document, root.get("gateway"), ("gateway",), GATEWAY)
    for section, keys in (("keys", KEY_SET), ("adapters", ADAPTER)):
        for name, value in _items(root.get(section)):
            _translate(document, value, (section, name), keys)
    _list_devices(document, root)
    devices = root.get("devices")
    for index, device in enumerate(devices if isinstance(devices, list) else []):
        _translate_device(document, device, ("devices", index))
    _translate_device(document, root.get("defaults"), ("defaults",))


def _translate_device(document: Document, device: Any, path: KeyPath) -> None:
    _drop_line_settings(document, device, path)
    _translate(document, device, path, DEVICE)
    if isinstance(device, dict):
        _unfold_link(document, device, (*path, "link"))
        _drop_line_settings(document, device.get("link"), (*path, "link"))
        _translate(document, device.get("link"), (*path, "link"), LINK)


def _unfold_link(document: Document, device: dict[str, Any], path: KeyPath) -> None:
    """Note a link that is only a port, or only a host, and read it as one with `uart`."""
    link = device.get("link")
    if isinstance(link, str) and link:
        hint = "" if is_in_network(link) else f"Write link: {{uart: {link}}}"
        document.wrong(path, f"expected a mapping of keys to values, got {link[:80]!r}", hint)
        device["link"] = {"uart": link}
        return
    inner = link.get("uart") if isinstance(link, dict) else None
    for shape, below in ((link, path), (inner, (*path, "uart"))):
        host = next((key for key, _ in _items(shape) if key in _HOSTS), None)
        if shape and host is not None:
            written = f"{shape[host]}:{shape['port']}" if "port" in shape else str(shape[host])
            document.wrong((*below, host), *in_network(written))
            device["link"] = BROKEN
            return


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _translate(document: Document, part: Any, path: KeyPath, keys: Keys) -> None:
    """Note each key of another program in `part`, and put its value where ours stands."""
    for key, value in _items(part):
        if key in keys.hints:
            document.wrong((*path, key), "is not a known key", keys.hints[key])
            del part[key]
        elif key in keys.ours:
            target = keys.ours[key]
            if _put(part, target, value):
                hint = f"Write {dotted(target)} instead" if len(target) == 1 else f"Write {_nested(target)}"
                _move(document, (*path, key), (*path, *target), value)
            else:
                hint = f"Delete it: {dotted(target)} is given as well"
            document.wrong((*path, key), "is not a known key", hint)
            del part[key]


def _nested(target: KeyPath) -> str:
    """Write a path as YAML does within one line: `link: {uart: …}`."""
    *outer, last = target
    return "".join(f"{key}: {{" for key in outer) + f"{last}: …" + "}" * len(outer)


def _put(part: dict[str, Any], target: KeyPath, value: Any) -> bool:
    """Put `value` at `target`; False when something is there already, or cannot be."""
    for key in target[:-1]:
        inner = part.setdefault(str(key), {})
        if not isinstance(inner, dict):
            return False
        part = inner
    return part.setdefault(str(target[-1]), value) is value


def _move(document: Document, old: KeyPath, new: KeyPath, value: Any) -> None:
    """Let `value` and all in it stand at `new` where it stands at `old`."""
    if old in document.places:
        document.places[new] = document.places[old]
    for key, inner in enumerate(value) if isinstance(value, list) else _items(value):
        _move(document, (*old, key), (*new, key), inner)


def is_line_setting(key: Any) -> bool:
    """Whether a key is a setting of a serial line that gatewayd does not have."""
    return LINE_SETTING.fullmatch(re.sub("[-_]", "", str(key).lower())) is not None


def _drop_line_settings(document: Document, part: Any, path: KeyPath) -> None:
    """Note settings of a serial line that cannot be chosen."""
    for key, value in _items(part):
        if is_line_setting(key):
            is_usual = not isinstance(value, list | dict) and str(value).lower() in _USUAL
            hint = "Delete it" if is_usual else "Delete it, and set the device's firmware to that as well"
            document.wrong((*path, key), f"cannot be chosen: {_LINE}", hint)
            del part[key]


def _list_devices(document: Document, root: dict[str, Any]) -> None:
    """Make a list of devices that are a mapping, after noting how a list is written."""
    devices = root.get("devices")
    if not isinstance(devices, dict):
        return
    path: KeyPath = ("devices",)
    if not devices:
        document.wrong(path, "expected a list, got an empty mapping", "Write devices: [] when there are none")
        root["devices"] = BROKEN
    elif _OF_A_DEVICE & devices.keys():
        document.wrong(
            path,
            "expected a list of devices, got the keys of one device",
            'Put "- " before the first key of the device, and two spaces before each of its other keys',
        )
        root["devices"] = [devices]
        _move_inside(document, devices, (), 0)
    else:
        document.wrong(
            path, "expected a list of devices, got a mapping", _as_item(*next(iter(devices.items())))
        )
        root["devices"] = [
            {"name": name, **own} if isinstance(own, dict) else own for name, own in devices.items()
        ]
        for index, (name, own) in enumerate(devices.items()):
            document.places["devices", index] = document.place(("devices", name))
            _move_inside(document, own, (name,), index)


def _as_item(name: str, device: Any) -> str:
    """Say how a device that stands under its name becomes an item of the list."""
    if isinstance(device, dict) and "name" in device:
        return f'Delete the line "{name}:", and put "- " before the first key below it'
    return f'Write "- name: {name}" in place of "{name}:", with the device\'s other keys below "name"'


def _move_inside(document: Document, device: Any, below: KeyPath, index: int) -> None:
    """Let what is in a device stand in a list's item."""
    for key, value in _items(device):
        _move(document, ("devices", *below, key), ("devices", index, key), value)
