"""What Home Assistant is told so that devices, and the gateway itself, appear there: pure.

One retained message for each of them, in Home Assistant's device-based discovery:

    <prefix>/device/<gateway id>/<object id>/config

An object id is a name with `_` for a dot, which Home Assistant does not accept there. The states of the
entities are the statuses that are published anyway, through templates. Home Assistant compares entities by
`unique_id`, which has the names as they are.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from gatewayd import __version__
from gatewayd.codes import Code
from gatewayd.config import Device, Settings
from gatewayd.jobs.transitions import JobState
from gatewayd.mqtt.topics import GatewayTopics, Presence
from gatewayd.status.board import DeviceStatus, StatusBoard, Unwell

GATEWAY_OBJECT_ID = "gateway"
# Long enough that two names of one gateway do not share it; if they do, it grows.
DIGEST_CHARACTERS = 6
# What Home Assistant takes of a summary.
SUMMARY_CHARACTERS = 255

# A job that waits is not in progress: an unplugged device would install for weeks.
UNDER_WAY = (JobState.TRANSFERRING, JobState.STAGED, JobState.ACTIVATING)
PROBLEMS = (JobState.FAILED, Unwell.REFUSED, Unwell.UNREACHABLE)
# A device that is unreachable stays a problem when there is an update for it, which then waits for weeks.
OUT_OF_REACH = [str(code) for code in Code if code.meaning.is_out_of_reach]
WHY = ("code", "reason", "refused_version", "refused_reason")
STATES = ("unknown", "idle", *map(str, JobState), *map(str, Unwell))

# Each of these says nothing about the empty message that ends a device's status.
_UPDATE = f"""{{% if value_json is defined and value_json.installed_version %}}\
{{% set under_way = value_json.state in {list(map(str, UNDER_WAY))} %}}\
{{{{ {{"installed_version": value_json.installed_version,
"latest_version": value_json.latest_version or value_json.installed_version,
"in_progress": under_way,
"update_percentage": value_json.progress if under_way else none,
"release_summary": (value_json.reason or "")[:{SUMMARY_CHARACTERS}]}} | to_json }}}}{{% endif %}}"""
_STATE = "{{ value_json.state if value_json is defined else 'None' }}"
_ONLINE = f"{{{{ '{Presence.OFFLINE}' if value == '{Presence.OFFLINE}' else '{Presence.ONLINE}' }}}}"
_CONNECTED = f"{{{{ 'OFF' if value == '{Presence.OFFLINE}' else 'ON' }}}}"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What one discovery message is made of; a `name` of None is the gateway itself.

    `offered`: the version that the button installs; None: there is no button.
    """

    topics: GatewayTopics
    gateway: str
    name: str | None = None
    model: str = ""
    hardware: str | None = None
    installed: str | None = None
    offered: str | None = None

    @property
    def identifier(self) -> str:
        """Which device of Home Assistant this is."""
        return "/".join(filter(None, ("gatewayd", self.gateway, self.name)))

    def to_bytes(self) -> bytes:
        """Return the message."""
        document = {
            "dev": self._device(),
            "o": {"name": "gatewayd", "sw": __version__},
            **(self._of_gateway() if self.name is None else self._of_device(self.name)),
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    def _device(self) -> dict[str, Any]:
        if self.name is None:
            return {
                "ids": [self.identifier],
                "name": f"gatewayd {self.gateway}",
                "mdl": "gatewayd",
                "sw": __version__,
            }
        known = {"mdl": self.model, "hw": self.hardware, "sw": self.installed}
        return {
            "ids": [self.identifier],
            "name": self.name,
            "via_device": f"gatewayd/{self.gateway}",
            **{key: value for key, value in known.items() if value},
        }

    def _of_device(self, name: str) -> dict[str, Any]:
        status = self.topics.device(name)
        update: dict[str, Any] = {
            "p": "update",
            "unique_id": f"{self.identifier}/update",
            "name": "Firmware",
            "device_class": "firmware",
            "state_topic": status,
            "value_template": _UPDATE,
        }
        if self.offered:  # Home Assistant shows a button where there is a topic for it
            update |= {
                "command_topic": self.topics.install(name),
                "payload_install": self.offered,
                "qos": 1,
                "retain": False,
            }
        return {
            "avty": [self._availability],
            "cmps": {
                "update": update,
                "state": {
                    "p": "sensor",
                    "unique_id": f"{self.identifier}/state",
                    "name": "State",
                    "device_class": "enum",
                    "options": STATES,
                    "state_topic": status,
                    "value_template": _STATE,
                    "entity_category": "diagnostic",
                },
                "problem": self._problem_sensor(
                    "problem",
                    "Problem",
                    status,
                    f"(value_json.state in {list(map(str, PROBLEMS))} or value_json.state =="
                    f" '{JobState.QUEUED}' and value_json.code in {OUT_OF_REACH})",
                    f"{{{', '.join(f'{key!r}: value_json.{key}' for key in WHY)}}}",
                ),
            },
        }

    def _of_gateway(self) -> dict[str, Any]:
        status, available = self.topics.gateway, {"availability": [self._availability]}
        return {
            "cmps": {
                "connectivity": {
                    "p": "binary_sensor",
                    "unique_id": f"{self.identifier}//connectivity",
                    "name": "Connectivity",
                    "device_class": "connectivity",
                    "state_topic": self.topics.status,
                    "value_template": _CONNECTED,
                    "entity_category": "diagnostic",
                },
                "version": {
                    "p": "sensor",
                    "unique_id": f"{self.identifier}//version",
                    "name": "Version",
                    "state_topic": status,
                    "value_template": "{{ value_json.version }}",
                    "entity_category": "diagnostic",
                }
                | available,
                "config_refused": self._problem_sensor(
                    "/config_refused",
                    "Configuration refused",
                    status,
                    "value_json.config_refused",
                    "{'reason': value_json.config_refused}",
                )
                | available,
                "trouble": self._problem_sensor(
                    "/trouble",
                    "Trouble",
                    status,
                    "value_json.trouble",
                    "value_json.trouble or {'code': none, 'reason': none}",
                )
                | available,
            }
        }

    @property
    def _availability(self) -> dict[str, Any]:
        """A gateway that sleeps between its connections is not away."""
        return {"topic": self.topics.status, "value_template": _ONLINE}

    def _problem_sensor(
        self, key: str, name: str, topic: str, condition: str, attributes: str
    ) -> dict[str, Any]:
        return {
            "p": "binary_sensor",
            "unique_id": f"{self.identifier}/{key}",
            "name": name,
            "device_class": "problem",
            "state_topic": topic,
            "value_template": f"{{{{ 'ON' if value_json is defined and {condition} else 'OFF' }}}}",
            "json_attributes_topic": topic,
            "json_attributes_template": f"{{% if value_json is defined %}}{{{{ ({attributes}) | to_json }}}}"
            "{% else %}{}{% endif %}",
            "entity_category": "diagnostic",
        }


def discoveries(settings: Settings, board: StatusBoard) -> dict[str, Discovery]:
    """Return every message that is wanted, by its topic; none while the feature is off."""
    if settings.mqtt.home_assistant is None:
        return {}
    topics, gateway = GatewayTopics.of(settings), settings.gateway.id
    ids = object_ids([device.name for device in settings.devices])
    root = discovery_root(settings.mqtt.home_assistant.prefix, gateway)
    found = {f"{root}/{GATEWAY_OBJECT_ID}/config": Discovery(topics, gateway)}
    for device in settings.devices:
        status = board.get(device.name)
        found[f"{root}/{ids[device.name]}/config"] = _of(topics, gateway, device, status)
    return found


def _of(topics: GatewayTopics, gateway: str, device: Device, status: DeviceStatus | None) -> Discovery:
    return Discovery(
        topics,
        gateway,
        name=device.name,
        model=device.app_id,
        hardware=device.hardware_id,
        installed=status.installed_version if status else None,
        offered=offer_of(status),
    )


def offer_of(status: DeviceStatus | None) -> str | None:
    """Return the version that the button of a device installs; None: there is none."""
    return status.latest_version if status and status.state != Unwell.REFUSED else None


def discovery_root(prefix: str, gateway: str) -> str:
    """Return the common beginning of a gateway's discovery topics; no other gateway has the same."""
    legal = _legal(gateway)
    return f"{prefix}/device/{legal if legal == gateway else _with_digest(gateway, DIGEST_CHARACTERS)}"


def discovery_filter(prefix: str, gateway: str) -> str:
    """Return the filter for a gateway's discovery topics."""
    return f"{discovery_root(prefix, gateway)}/+/config"


def object_ids(names: Iterable[str]) -> Mapping[str, str]:
    """Return an object id for each name: legal, distinct, and the same for the same names."""
    names = sorted(set(names))
    shared = Counter(map(_legal, names))
    ids = {name: name for name in names if name == _legal(name) != GATEWAY_OBJECT_ID}
    taken = {GATEWAY_OBJECT_ID, *ids}
    for name in names:
        if name in ids:
            continue
        legal = _legal(name)
        length = DIGEST_CHARACTERS
        ids[name] = legal if shared[legal] == 1 and legal not in taken else _with_digest(name, length)
        while ids[name] in taken:
            length += 1
            ids[name] = _with_digest(name, length)
        taken.add(ids[name])
    return ids


def _legal(name: str) -> str:
    return name.replace(".", "_")


def _with_digest(name: str, length: int) -> str:
    return f"{_legal(name)}_{sha256(name.encode()).hexdigest()[:length]}"
