"""A Bluetooth adapter: scanning for devices, and connecting to them.

Theory of operation. A controller can do only some things at the same time: established connections carry data
side by side, but many controllers cannot connect while they scan, and some cannot make two connections at the
same time. Each supports a limited number of connections. So a link that wants a device

    seeks it          one scan serves all seekers, and continues while there are any
    takes a slot      there are `max_connections`; only for a device that was heard, so absent ones need none
    takes the turn    one connect (with discovery and pairing) or one stretch of scanning at a time

and returns the slot when the connection is closed. A *patient* seeker waits for a sleeping device, for days
if necessary: while all seekers are patient, the adapter scans only a fraction of the time.

A problem with the adapter (absent, blocked, no BlueZ) fails all seekers. The next seeker tries again, so that
gatewayd recovers by itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from dbus_fast.aio import MessageBus

from gatewayd.codes import Code
from gatewayd.errors import LinkError
from gatewayd.link.bluetooth import (
    FOREIGN,
    AdvertisementData,
    Backend,
    BleakClient,
    BLEDevice,
    translate_error,
)
from gatewayd.link.bluez import close
from gatewayd.link.stale_connections import StaleConnections
from gatewayd.link.target import Target

# One stretch of scanning: twice the slowest advertising interval in common use (2 s), and a short wait for
# others.
SCAN_S = 5.0
# The pause between stretches while all seekers are patient: the radio is on a third of the time.
REST_S = 10.0
# For a call to BlueZ that needs no radio; some of them hang if the adapter is missing.
CALL_LIMIT_S = 10.0
# BlueZ forgets a device without a bond that it has not heard for 30 s: past this it is looked for again.
FRESH_S = 20.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each step may take, in seconds. Discovery is counted together with the connect before it."""

    scan_s: float = 30.0
    connect_s: float = 20.0
    discovery_s: float = 30.0


@dataclass(slots=True)
class _Seeker:
    target: Target
    found: asyncio.Future[BLEDevice]
    is_patient: bool


class Radio:
    """One adapter by its name (hci0); None: the first that is powered.

    `stale_connections` knows which connections are ours, so that others to the device we seek are closed;
    without it, none are.
    """

    def __init__(
        self,
        adapter: str | None = None,
        *,
        max_connections: int = 3,
        backend: Backend | None = None,
        stale_connections: StaleConnections | None = None,
    ) -> None:
        self.adapter = adapter
        self._backend = backend or Backend()
        self.free_slots = max_connections
        self._slots = asyncio.Semaphore(max_connections)
        self._stale_connections = stale_connections
        self._turn = asyncio.Lock()
        self._seekers: list[_Seeker] = []
        self._bonded: set[str] = set()
        self._heard_at: dict[str, float] = {}  # by address, of those that were sought
        self._impatient = asyncio.Event()  # an impatient seeker arrived
        self._heard = asyncio.Event()
        self._scanning: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"Bluetooth adapter {self.adapter}" if self.adapter else "Bluetooth"

    async def find(self, target: Target, limit_s: float | None) -> BLEDevice:
        """Wait until a device is heard; `limit_s` None: for as long as it takes, at a low duty cycle.

        Raises LinkError: `not_heard`, `bluetooth_missing`, `adapter_missing`, `adapter_blocked`,
        `link_denied`.
        """
        if self._stale_connections is not None:
            await self._stale_connections.clear([target])
        seeker = _Seeker(target, asyncio.get_running_loop().create_future(), is_patient=limit_s is None)
        self._seekers.append(seeker)
        if not seeker.is_patient:
            self._impatient.set()
        if self._scanning is None or self._scanning.done():
            self._scanning = asyncio.create_task(self._scan(), name=f"scan: {self}")
        try:
            async with asyncio.timeout(limit_s):
                return await seeker.found
        except TimeoutError:
            raise LinkError(
                f"{target} was not heard for {limit_s:.0f} s",
                code="not_heard",
                hint="check that it is on, in range, and not connected elsewhere;"
                " `gatewayctl scan ble` lists devices",
            ) from None
        finally:
            self._seekers.remove(seeker)
            if not self._seekers:
                self._heard.set()
                self._impatient.set()

    async def survey(self, duration_s: float) -> list[tuple[BLEDevice, AdvertisementData]]:
        """Listen; return each device heard with its last advertisement. Raises LinkError as `find`."""
        heard: dict[str, tuple[BLEDevice, AdvertisementData]] = {}

        def note(device: BLEDevice, advertisement: AdvertisementData) -> None:
            heard[device.address] = device, advertisement

        try:
            async with self._turn, self._scanner(note):
                await asyncio.sleep(duration_s)
        except FOREIGN as error:
            raise self._scan_failure(error) from error
        return list(heard.values())

    async def reserve(self, target: Target, limit_s: float | None) -> BLEDevice:
        """Find a device, and take a slot for it, which `release` or `disconnect` gives back.

        Raises LinkError as `find`.
        """
        return await self.take_slot(target, await self.find(target, limit_s), limit_s)

    async def take_slot(self, target: Target, device: BLEDevice, limit_s: float | None) -> BLEDevice:
        """Take a slot for a device that was found, and find it again if that has taken too long."""
        await self._slots.acquire()
        try:
            if not self._is_fresh(device):
                device = await self.find(target, limit_s)
        except BaseException:
            self._slots.release()
            raise
        self.free_slots -= 1
        if self._stale_connections is not None:
            facts = device.details if isinstance(device.details, dict) else {}
            self._stale_connections.hold(device.address, facts.get("path", ""))
        return device

    def _is_fresh(self, device: BLEDevice) -> bool:
        """Whether a device was heard so lately that BlueZ still knows it."""
        now = asyncio.get_running_loop().time()
        return now - self._heard_at.get(device.address, now) < FRESH_S

    def release(self, address: str) -> None:
        """Give a slot back."""
        self._heard_at.pop(address, None)
        if self._stale_connections is not None:
            self._stale_connections.let_go(address)
        self.free_slots += 1
        self._slots.release()

    async def connect(
        self, device: BLEDevice, limits: Limits, *, pair: bool, on_end: Callable[[], None]
    ) -> BleakClient:
        """Connect to a device that has a slot, once: discover, pair. `disconnect` ends the connection.

        `on_end` is called when the connection ends. Raises LinkError: `connect_failed`, `pairing_failed`, and
        what is wrong with the adapter.
        """
        try:
            async with self._turn:
                if not self._is_fresh(device):
                    raise LinkError(
                        f"{device.address} on {self}: it was heard too long ago", code=Code.DEVICE_FORGOTTEN
                    )
                return await self._connect(device, limits, pair=pair, on_end=on_end)
        except FOREIGN as error:
            raise translate_error(f"{device.address} on {self}", error, "connect_failed") from error

    def had_bond(self, address: str) -> bool:
        """Whether the last connection to this address was made with a bond that existed before."""
        return address in self._bonded

    async def disconnect(self, client: BleakClient) -> None:
        """End a connection and free its slot. Never raises."""
        try:
            await _part(client)
        finally:
            self.release(client.address)

    async def forget(self, device: BLEDevice) -> None:
        """Have BlueZ discover a device's services again, unless there is a bond. Never raises."""
        with contextlib.suppress(*FOREIGN):
            async with asyncio.timeout(CALL_LIMIT_S):
                await self._backend.connections.forget(device)

    async def close(self) -> None:
        """Stop scanning."""
        if self._scanning is not None:
            self._scanning.cancel()
            await asyncio.wait([self._scanning])

    async def _connect(
        self, device: BLEDevice, limits: Limits, *, pair: bool, on_end: Callable[[], None]
    ) -> BleakClient:
        client = self._backend.make_client(device, lambda _: on_end(), limits.connect_s + limits.discovery_s)
        try:
            # bleak's own limit does not cover each of its calls.
            async with asyncio.timeout(limits.connect_s + limits.discovery_s + CALL_LIMIT_S):
                await client.connect()
                self._bonded.discard(device.address)
                if pair and await self._backend.connections.pair(client, device):
                    self._bonded.add(device.address)
        except BaseException:
            await _part(client)
            raise
        return client

    async def _scan(self) -> None:
        """Scan while there are seekers."""
        try:
            while self._is_sought():
                async with self._turn:
                    await self._listen()
                if self._is_sought() and all(seeker.is_patient for seeker in self._seekers):
                    await self._rest()
        except FOREIGN as error:
            failure = self._scan_failure(error)
            for seeker in self._seekers:
                if not seeker.found.done():
                    seeker.found.set_exception(failure)

    def _scan_failure(self, error: BaseException) -> LinkError:
        if isinstance(error, TimeoutError):
            hint = "`systemctl restart bluetooth`; if that does not help, unplug the adapter"
            message = f"{self} has not answered for {CALL_LIMIT_S:.0f} s"
            return LinkError(message, code=Code.ADAPTER_SILENT, hint=hint)
        failure = translate_error(str(self), error, Code.ADAPTER_FAILED)
        if failure.code == Code.ADAPTER_FAILED:
            failure.hint = "`journalctl -u bluetooth` may say why; `systemctl restart bluetooth`"
        return failure

    def _is_sought(self) -> bool:
        return any(not seeker.found.done() for seeker in self._seekers)

    async def _rest(self) -> None:
        """Leave the radio alone for a while, or until an impatient seeker arrives."""
        self._impatient.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_S):
                await self._impatient.wait()

    async def _listen(self) -> None:
        """Scan for one stretch, or until a device is found, so that it can be connected to."""
        self._heard.clear()
        async with self._scanner(self._on_advertisement):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SCAN_S):
                    await self._heard.wait()

    @contextlib.asynccontextmanager
    async def _scanner(
        self, on_advertisement: Callable[[BLEDevice, AdvertisementData], None]
    ) -> AsyncIterator[None]:
        scanner = self._backend.make_scanner(self.adapter, on_advertisement)
        async with asyncio.timeout(CALL_LIMIT_S):
            await scanner.start()
        try:
            yield
        finally:
            with contextlib.suppress(*FOREIGN):
                async with asyncio.timeout(CALL_LIMIT_S):
                    await scanner.stop()

    def _on_advertisement(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        for seeker in self._seekers:
            if not seeker.found.done() and seeker.target.is_in(device, advertisement):
                self._heard_at[device.address] = asyncio.get_running_loop().time()
                seeker.found.set_result(device)
                self._heard.set()


async def _part(client: BleakClient) -> None:
    """Disconnect, or give up after a while. Raises only when cancelled."""
    # bleak 0.22.3 leaves its connection to D-Bus open where connect() failed early; a user may have 256.
    bus = getattr(getattr(client, "_backend", None), "_bus", None)
    with contextlib.suppress(*FOREIGN):
        async with asyncio.timeout(CALL_LIMIT_S):
            await client.disconnect()
    if isinstance(bus, MessageBus):
        await close(bus)
