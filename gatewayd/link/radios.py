"""The Bluetooth adapters of this machine, and the choice of one for a device."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from gatewayd.codes import Code
from gatewayd.errors import LinkError
from gatewayd.link.bluetooth import FOREIGN, NO_ADAPTER_HINT, Backend, BLEDevice, translate_error
from gatewayd.link.radio import CALL_LIMIT_S, Radio
from gatewayd.link.stale_connections import StaleConnections
from gatewayd.link.target import Target

_ADAPTERS = Path("/sys/class/bluetooth")
DEFAULT_CONNECTIONS = 3
# Where the kernel lists none: BlueZ is asked, and says what is wrong.
_USUAL = "hci0"


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
        self._max_connections = dict(max_connections)
        self._backend = backend or Backend()
        self.stale_connections = StaleConnections(self._backend.connections)
        self._list_adapters = list_adapters
        self._radios: dict[str, Radio] = {}

    async def choose(self, adapter: str | None) -> list[Radio]:
        """Return the radio of an adapter, by name or address, whether it is there or not; None: all of them.

        Raises LinkError: `adapter_missing` for an address, and what is wrong with BlueZ.
        """
        names = {} if not self._has_addresses(adapter) else await self._names()
        for address, own_name in names.items():
            if address in self._max_connections:
                self._max_connections.setdefault(own_name, self._max_connections[address])
        if adapter is None:
            return [self._radio(name) for name in self._list_adapters() or [_USUAL]]
        name = names.get(adapter) if ":" in adapter else adapter
        if name is None:
            raise LinkError(
                f"Bluetooth adapter {adapter} is not there", code=Code.ADAPTER_MISSING, hint=NO_ADAPTER_HINT
            )
        return [self._radio(name)]

    def _has_addresses(self, adapter: str | None) -> bool:
        return any(":" in name for name in (*self._max_connections, adapter or ""))

    async def _names(self) -> dict[str, str]:
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                return await self._backend.connections.adapters()
        except FOREIGN as error:
            raise translate_error("Bluetooth", error, Code.ADAPTER_FAILED) from error

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


def only(radio: Radio) -> Callable[[], Awaitable[list[Radio]]]:
    """Return a choice that has one radio."""

    async def choose() -> list[Radio]:
        return [radio]

    return choose


async def reserve(radios: Sequence[Radio], target: Target, limit_s: float | None) -> tuple[Radio, BLEDevice]:
    """Find a device with any of several adapters, and take a slot of the one that heard it first.

    Those without a free slot are asked only where none has one. Raises LinkError as `Radio.find`: when all
    have failed, and then that the device was not heard, if there is one that could have heard it.
    """
    asked = [radio for radio in radios if radio.free_slots > 0] or radios
    searches = {asyncio.create_task(radio.find(target, limit_s)): radio for radio in asked}
    try:
        pending, failures = set(searches), []
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for search in done:
                error = search.exception()
                if error is None:
                    radio = searches[search]
                    return radio, await radio.take_slot(target, search.result(), limit_s)
                failures.append(error)
    finally:
        for search in searches:
            search.cancel()
        await asyncio.wait(searches)
    raise next((one for one in failures if getattr(one, "code", "") == Code.NOT_HEARD), failures[0])
