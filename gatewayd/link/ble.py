"""A Bluetooth device as a Link: each write or notification carries one frame.

- A write without response returns once BlueZ has queued it, even on a dead radio: there is no
  back-pressure. The device's credits bound what is in flight, and a missing ACK is the only sign of a dead
  link.
- Several writes are in flight at a time. Each is a D-Bus call to BlueZ, which preserves their order.
- A write with response returns once all writes before it have arrived. It carries what a session wants
  confirmed.
- The packet size is known only after connecting, and may differ each time.
- If a device floods us, at most 64 KiB are buffered, and the rest is dropped.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from bleak.backends.characteristic import BleakGATTCharacteristic

from gatewayd.codes import Code
from gatewayd.errors import LinkError, LinkLost
from gatewayd.link.bluetooth import FOREIGN, BleakClient, BLEDevice, lasting_address, translate_error
from gatewayd.link.radio import Limits, Radio
from gatewayd.link.radios import reserve
from gatewayd.link.target import Target
from gatewayd.protocol.gatt import GattProfile

# BlueZ silently drops longer values.
LONGEST_VALUE = 512
# Measured: 18, 42 and 51 kB/s with 1, 4 and 16 in flight.
WRITES_IN_FLIGHT = 16
UNREAD_LIMIT = 64 * 1024
CONNECT_TRIES = 3
# For another device of the same name: two rounds of the slowest advertisement in common use, 2 s.
OTHERS_S = 5.0
# A connect fails now and then on a good link (a lost packet at the wrong moment), and not twice in a row.
RETRY_S = 0.5
_BEGIN_AGAIN_HINT = "`gatewayctl cancel` ends the job, `gatewayctl retry` begins one with the device there"


class BleLink:
    """One device. `choose_radios` selects adapters; `pair`: encrypt, and bond if there is no bond yet."""

    is_datagram = True
    vanishes_with_device = True

    def __init__(
        self,
        choose_radios: Callable[[], Awaitable[Sequence[Radio]]],
        target: Target,
        profile: GattProfile,
        *,
        limits: Limits | None = None,
        pair: bool = True,
        waits_for_advertisement: bool = False,
    ) -> None:
        self._choose_radios = choose_radios
        self._radio: Radio | None = None
        self._target = target
        self._profile = profile
        self._limits = limits or Limits()
        self._pair = pair
        self._is_patient = waits_for_advertisement
        self._client: BleakClient | None = None
        self._outlet: BleakGATTCharacteristic | None = None
        self._device: BLEDevice | None = None
        self._expected: str | None = None
        self._is_only = False
        self.on_data: Callable[[bytes], None] | None = None  # a radio is too slow for it to matter
        self._forget()

    @property
    def max_datagram(self) -> int | None:
        """See Link. None while it is closed."""
        if self._outlet is None:
            return None
        return min(self._outlet.max_write_without_response_size, LONGEST_VALUE)

    @property
    def peer(self) -> str | None:
        """See Link."""
        return None if self._device is None else lasting_address(self._device)

    @property
    def silence_code(self) -> str:
        """See Link. BlueZ says that there is a bond, connects, and then nothing that is written arrives."""
        return Code.BOND_LOST if self._has_old_bond and not self._has_heard else ""

    @property
    def silence_hint(self) -> str:
        """See Link. BlueZ remembers the services and the bond; the device may have others now, or none."""
        if not self._pair or self._device is None:
            return ""
        return (
            f"after an update, or if it has lost its bond: `bluetoothctl remove {self._device.address}`;"
            " gatewayd pairs again"
        )

    async def rival(self) -> str:
        """See Link. Nobody else gets what comes on our connection."""
        return ""

    def expect(self, peer: str | None, *, only: bool) -> None:
        """See Link. A device whose address is configured is at no other."""
        self._expected, self._is_only = peer, only

    def pass_over(self) -> bool:
        """See Link."""
        if self._target.address is not None or self._device is None:
            return False
        address = self._device.address.upper()
        self._target = replace(self._target, but=self._target.but | {address})
        return True

    async def open(self) -> None:
        """See Link; LinkError has the codes of `Radio.find` and `Radio.connect`, and `no_service`."""
        self._forget()
        radio, device = await self._reserve(await self._choose_radios())
        self._device = device
        try:
            self._client = await self._connect(radio, device)
        except BaseException:
            radio.release(device.address)
            raise
        self._radio = radio
        try:
            await self._subscribe(self._client)
        except BaseException:
            await self.close()
            raise

    @property
    def _has_old_bond(self) -> bool:
        device, radio = self._device, self._radio
        return self._pair and device is not None and radio is not None and radio.had_bond(device.address)

    async def close(self) -> None:
        """See Link. What BlueZ still has queued may be lost silently."""
        client, self._client, self._outlet = self._client, None, None
        for write in self._writes:
            write.cancel()
        if client is not None and self._radio is not None:
            await self._radio.disconnect(client)
            if self._device is not None and not self._pair and not self._has_heard:
                await self._radio.forget(
                    self._device
                )  # the services it remembers may be those of other firmware

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        """See Link. `confirmed`: return once the device has it."""
        client, outlet = self._opened()
        if confirmed and self._profile.takes_requests:
            if self._writes:  # not all of them may have been handed over yet
                await asyncio.wait(self._writes)
            await self._write(client, outlet, data, response=True)
        else:
            while len(self._writes) >= WRITES_IN_FLIGHT:
                await asyncio.wait(self._writes, return_when=asyncio.FIRST_COMPLETED)
            write = asyncio.create_task(self._write(client, outlet, data, response=False))
            self._writes.add(write)
            write.add_done_callback(self._written)
        self._check()

    def send_now(self, data: bytes) -> bool:  # noqa: ARG002 - as Link has it
        """See Link. BlueZ is always waited for."""
        return False

    def hold(self) -> bool:
        """See Link. A radio has turns of its own."""
        return False

    def look(self) -> None:
        """See Link."""

    async def receive(self) -> bytes:
        """See Link: one frame. Frames that arrived before the link was lost are still delivered."""
        self._opened(check=False)
        while not self._unread:
            self._check()
            self._news.clear()
            await self._news.wait()
        frame = self._unread.popleft()
        self._unread_bytes -= len(frame)
        return frame

    async def set_baud(self, baud: int) -> None:
        """See Link: there is no speed to set."""

    def _forget(self) -> None:
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._has_heard = False
        self._news = asyncio.Event()
        self._writes: set[asyncio.Task[None]] = set()
        self._lost: LinkLost | None = None

    async def _reserve(self, radios: Sequence[Radio]) -> tuple[Radio, BLEDevice]:
        """Find the device, at the address where it is expected first."""
        limit_s = None if self._is_patient else self._limits.scan_s
        expected = None if self._target.address else self._expected
        if expected is None or (self._is_patient and not self._is_only):
            return await self._reserve_any(radios, limit_s)
        try:
            return await reserve(radios, replace(self._target, address=expected), limit_s)
        except LinkError as error:
            if error.code != Code.NOT_HEARD:
                raise
            if self._is_only:
                hint = f"{error.hint}; if it was replaced, or its address has changed: {_BEGIN_AGAIN_HINT}"
                raise LinkError(f"{error.message}: the job began there", code=error.code, hint=hint) from None
        return await self._reserve_any(radios, limit_s)

    async def _reserve_any(self, radios: Sequence[Radio], limit_s: float | None) -> tuple[Radio, BLEDevice]:
        """Find any device that fits; another than one that was passed over is on the air or not."""
        return await reserve(radios, self._target, OTHERS_S if self._target.but else limit_s)

    async def _connect(self, radio: Radio, device: BLEDevice) -> BleakClient:
        """Connect, a few times if need be; what is wrong with the adapter or the bond is not tried again."""
        tries = 0
        while True:
            tries += 1
            try:
                return await radio.connect(device, self._limits, pair=self._pair, on_end=self._ended)
            except LinkError as error:
                failure = error
            if tries == CONNECT_TRIES:
                raise failure
            if failure.code == Code.CONNECT_FAILED:
                await asyncio.sleep(RETRY_S)
            elif failure.code == Code.DEVICE_FORGOTTEN:
                device = await radio.find(replace(self._target, address=device.address), self._limits.scan_s)
            else:
                raise failure

    async def _subscribe(self, client: BleakClient) -> None:
        profile = self._profile
        service = client.services.get_service(profile.service)
        outlet = None if service is None else service.get_characteristic(profile.to_device)
        inlet = None if service is None else service.get_characteristic(profile.from_device)
        if outlet is None or inlet is None:
            raise LinkError(
                f"{self._target} does not offer {profile.offers}: it has no service {profile.service}"
                " with the characteristics for both directions",
                code="no_service",
                hint=f"check that it is the right device and that its firmware includes {profile.offers}",
            )
        try:
            async with asyncio.timeout(self._limits.discovery_s):
                await client.start_notify(inlet, self._on_frame)
        except FOREIGN as error:
            failure = translate_error(str(self._target), error, "connect_failed")
            failure.hint = failure.hint or self.silence_hint
            raise failure from error
        self._outlet = outlet

    async def _write(
        self, client: BleakClient, outlet: BleakGATTCharacteristic, data: bytes, *, response: bool
    ) -> None:
        try:
            await client.write_gatt_char(outlet, data, response=response)
        except FOREIGN as error:
            self._lose(f"the write failed: {' '.join(map(str, error.args)) or type(error).__name__}")
        except asyncio.CancelledError:
            # A connection that goes down cancels pending writes. Taken for our own cancellation, that would
            # end the attempt silently.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._lose("the write was cancelled with the connection")

    def _written(self, write: asyncio.Task[None]) -> None:
        self._writes.discard(write)
        if not write.cancelled() and (error := write.exception()) is not None:
            self._lose(f"the write failed: {error}")

    def _on_frame(self, _: BleakGATTCharacteristic, data: bytearray) -> None:
        self._has_heard = True
        if self._unread_bytes + len(data) <= UNREAD_LIMIT:
            self._unread.append(bytes(data))
            self._unread_bytes += len(data)
            self._news.set()

    def _ended(self) -> None:
        self._lose("the connection ended")

    def _lose(self, why: str) -> None:
        if self._lost is None:
            hint = "gatewayd reconnects, and the transfer resumes"
            self._lost = LinkLost(f"{self._target} was lost: {why}", hint=hint)
            self._news.set()

    def _check(self) -> None:
        if self._lost is not None:
            raise LinkLost(self._lost.message, hint=self._lost.hint)

    def _opened(self, *, check: bool = True) -> tuple[BleakClient, BleakGATTCharacteristic]:
        if self._client is None or self._outlet is None:
            raise LinkLost(f"{self._target} is not connected")
        if check:
            self._check()
        return self._client, self._outlet
