"""Which gateways and devices of a fleet are shown: all conditions have to be met."""

from dataclasses import dataclass

from gatewayd.fleet.status import FleetDevice, FleetGateway, FleetStatus


@dataclass(frozen=True, slots=True)
class Selection:
    """The conditions: `stuck` and `version` of devices, and of gateways with such; `offline` of gateways."""

    stuck: bool = False
    offline: bool = False
    version: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether there is no condition."""
        return self == Selection()

    def of(self, fleet: FleetStatus) -> FleetStatus:
        """Return what meets the conditions; `ok` is said of that."""
        gateways = tuple(
            one
            for gateway in fleet.gateways
            if not self.offline or gateway.is_away
            if (one := self._part(gateway)) is not None
        )
        ok = not any(one.needs_somebody for one in gateways)
        return FleetStatus(broker=fleet.broker, gateways=gateways, ok=ok)

    def _part(self, gateway: FleetGateway) -> FleetGateway | None:
        if not self.stuck and self.version is None:
            return gateway
        devices = tuple(device for device in gateway.devices if self._takes(device))
        return gateway.model_copy(update={"devices": devices}) if devices else None

    def _takes(self, device: FleetDevice) -> bool:
        return (device.stuck or not self.stuck) and self.version in (None, device.installed_version)
