"""All MQTT topics of a gateway, and what is published on each.

    <root>/status            retained: `online`, `sleeping`, or `offline`, which is also the last will
    <root>/gateway           retained: the status of the gateway itself, as JSON
    <root>/devices/<name>    retained: the status of one device, as JSON
    <root>/devices/<name>/install    a command: the version to install (see install_commands.py)
    <root>/marker            retained: shows that the broker remembers (see retained_check.py)
    <ota topic>              firmware, by application, major.minor and channel: `ota.topic` has its form

The root is `mqtt.status_topic` with the gateway's id in it. What Home Assistant discovers stands elsewhere:
see home_assistant.py.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from gatewayd.config import Settings
from gatewayd.config.model import NAME_PATTERN

_PLACE = "{gateway_id}"
_NAME = NAME_PATTERN[1:-1]  # within a topic


class Presence(StrEnum):
    """The state of a gateway, as it publishes it."""

    ONLINE = "online"
    OFFLINE = "offline"
    SLEEPING = "sleeping"

    @property
    def payload(self) -> bytes:
        """The payload of the message."""
        return self.value.encode()


@dataclass(frozen=True, slots=True)
class LastWill:
    """What the broker publishes, retained, when a gateway disconnects without saying so."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class GatewayTopics:
    """The topics of one gateway."""

    root: str

    @classmethod
    def of(cls, settings: Settings, gateway_id: str | None = None) -> "GatewayTopics":
        """Return the topics of the configured gateway, or of another at the same broker."""
        return cls(settings.mqtt.status_topic.replace(_PLACE, gateway_id or settings.gateway.id))

    @property
    def status(self) -> str:
        """Where the gateway publishes its `Presence`."""
        return f"{self.root}/status"

    @property
    def will(self) -> LastWill:
        """The last will, for that topic."""
        return LastWill(self.status, Presence.OFFLINE.payload)

    @property
    def gateway(self) -> str:
        """Where the gateway publishes its `GatewayStatus`."""
        return f"{self.root}/gateway"

    @property
    def marker(self) -> str:
        """Where the gateway publishes what shows that the broker remembers."""
        return f"{self.root}/marker"

    def device(self, name: str) -> str:
        """Return where the status of a device is published."""
        return f"{self.devices}/{name}"

    def install(self, name: str) -> str:
        """Return where the gateway is told to install what is offered to a device."""
        return f"{self.device(name)}/install"

    def told_to_install(self, topic: str) -> str | None:
        """Return the name in a topic of `install`; None: it is another topic."""
        before, after = f"{self.devices}/", "/install"
        if not topic.startswith(before) or not topic.endswith(after):
            return None
        name = topic[len(before) : -len(after)]
        return name if name and "/" not in name else None

    @property
    def devices(self) -> str:
        """The common beginning of the topics of devices."""
        return f"{self.root}/devices"

    @property
    def every_device(self) -> str:
        """The filter for the statuses of all devices."""
        return self.device("+")

    @property
    def every_install(self) -> str:
        """The filter for the commands to all devices."""
        return self.install("+")


class FleetPlace(NamedTuple):
    """Which gateway's topic it is, and what stands there; `device` is empty unless that is a device."""

    gateway: str
    what: Literal["status", "gateway", "device"]
    device: str = ""


class FleetTopics:
    """The status topics of all gateways at a broker, or of one."""

    def __init__(self, settings: Settings, gateway: str | None) -> None:
        template = settings.mqtt.status_topic
        if _PLACE not in template:  # only one gateway can use such a topic: the configured one
            gateway = settings.gateway.id
        self.gateway = gateway
        self._settings = settings
        before, place, after = map(re.escape, template.partition(_PLACE))
        name = re.escape(gateway) if gateway else _NAME
        group = f"(?P<gateway>{name})" if place else ""
        self._pattern = re.compile(f"{before}{group}{after}/(status|gateway|devices/(?P<device>{_NAME}))")

    @property
    def statuses(self) -> str:
        """The filter for the presence of gateways."""
        return self._every_gateway.status

    @property
    def reports(self) -> str:
        """The filter for the statuses of gateways."""
        return self._every_gateway.gateway

    @property
    def _every_gateway(self) -> GatewayTopics:
        """A wildcard stands for a whole level."""
        if self.gateway is not None:
            return self.of(self.gateway)
        levels = self._settings.mqtt.status_topic.split("/")
        return GatewayTopics("/".join("+" if _PLACE in level else level for level in levels))

    def of(self, gateway: str) -> GatewayTopics:
        """Return the topics of one gateway."""
        return GatewayTopics.of(self._settings, gateway)

    def parse(self, topic: str) -> FleetPlace | None:
        """Return whose topic it is; None: it is not one of these."""
        found = self._pattern.fullmatch(topic)
        if found is None:
            return None
        gateway = found.groupdict().get("gateway") or self.gateway or ""
        if found["device"]:
            return FleetPlace(gateway, "device", found["device"])
        return FleetPlace(gateway, "gateway" if topic.endswith("/gateway") else "status")
