"""Create a device's link from its configuration. Bluetooth is imported only if a device uses it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gatewayd.config import Adapter, BleSettings, BleTarget, Device
from gatewayd.link.base import Link
from gatewayd.link.uart import UartLink
from gatewayd.protocol.gatt import GattProfile
from gatewayd.protocol.registry import PROTOCOLS

if TYPE_CHECKING:
    from gatewayd.link.bluetooth import Backend
    from gatewayd.link.radios import Radios
    from gatewayd.link.target import Target


def radio_target(written: BleTarget) -> "Target":
    """Return the target to listen for."""
    from gatewayd.link.target import Target  # noqa: PLC0415 - see the module's text

    data = written.service_data
    return Target(
        address=written.address,
        name=written.name,
        service_data=(data.uuid, bytes.fromhex(data.starts_with)) if data else None,
    )


class LinkFactory:
    """Creates links; those on one Bluetooth adapter share its radio. `backend` replaces BlueZ in tests."""

    def __init__(self, adapters: dict[str, Adapter], backend: "Backend | None" = None) -> None:
        self._adapters = adapters
        self._backend = backend
        self._radios: Radios | None = None

    def make(self, device: Device) -> Link:
        """Return a closed link to a device."""
        link = device.link
        if isinstance(link, BleSettings):
            profile = PROTOCOLS[device.protocol].gatt
            assert profile is not None, device.protocol  # noqa: S101 - the configuration refuses that
            return self._ble(link, profile)
        return UartLink(link.uart, baud=link.baud, dtr=link.dtr, rts=link.rts)

    async def clear(self, devices: Iterable[Device]) -> None:
        """Close stale connections to these devices from a previous run. Never raises."""
        targets = [radio_target(one.link.ble) for one in devices if isinstance(one.link, BleSettings)]
        if targets:
            await self._all_radios().stale_connections.clear(targets)

    async def close(self) -> None:
        """Stop using the radios. Links are closed by their owners."""
        if self._radios is not None:
            await self._radios.close()

    def _ble(self, link: BleSettings, profile: GattProfile) -> Link:
        from gatewayd.link import ble, radio  # noqa: PLC0415 - see the module's text

        choose, limits = self._all_radios().choose, link.limits
        return ble.BleLink(
            lambda: choose(link.adapter),
            radio_target(link.ble),
            profile,
            limits=radio.Limits(limits.scan_s, limits.connect_s, limits.discovery_s),
            pair=link.pair,
            waits_for_advertisement=link.wake == "advertisement",
        )

    def _all_radios(self) -> "Radios":
        from gatewayd.link import radios  # noqa: PLC0415 - as above

        if self._radios is None:
            connections = {name: one.max_connections for name, one in self._adapters.items()}
            self._radios = radios.Radios(connections, backend=self._backend)
        return self._radios
