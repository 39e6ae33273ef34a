"""The Bluetooth adapters of this machine, and the choice of one for a device."""

from collections.abc import Callable, Mapping
from pathlib import Path

from gatewayd.link.bluetooth import Backend
from gatewayd.link.radio import Radio
from gatewayd.link.stale_connections import StaleConnections

_ADAPTERS = Path("/sys/class/bluetooth")
DEFAULT_CONNECTIONS = 3


def adapters_here() -> list[str]:
    """List the adapters that the kernel has."""
    return sorted(path.name for path in _ADAPTERS.glob("hci*") if ":" not in path.name)


class Radios:
    """Radios by adapter, created on first use. `max_connections`: by adapter, if not the default."""

    def __init__(
        self,
        max_connections: Mapping[str, int],
        *,
        backend: Backend | None = None,
        list_adapters: Callable[[], list[str]] = adapters_here,
    ) -> None:
        self._max_connections = max_connections
        self._backend = backend or Backend()
        self.stale_connections = StaleConnections(self._backend.connections)
        self._list_adapters = list_adapters
        self._radios: dict[str, Radio] = {}

    def choose(self, adapter: str | None) -> Radio:
        """Return the radio of an adapter, present or not; None: the present one with the most free slots."""
        if adapter is not None:
            return self._radio(adapter)
        radios = [self._radio(name) for name in self._list_adapters()]
        return max(radios, key=lambda radio: radio.free_slots, default=None) or self._radio("hci0")

    async def close(self) -> None:
        """Stop scanning everywhere."""
        for radio in self._radios.values():
            await radio.close()

    def _radio(self, adapter: str) -> Radio:
        if adapter not in self._radios:
            connections = self._max_connections.get(adapter, DEFAULT_CONNECTIONS)
            self._radios[adapter] = Radio(
                adapter,
                max_connections=connections,
                backend=self._backend,
                stale_connections=self.stale_connections,
            )
        return self._radios[adapter]
