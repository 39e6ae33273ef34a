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
from collections.abc import Callable

from bleak.backends.characteristic import BleakGATTCharacteristic

from gatewayd.codes import Code
from gatewayd.errors import LinkError, LinkLost
from gatewayd.link.bluetooth import FOREIGN, BleakClient, BLEDevice, translate_error
from gatewayd.link.radio import Limits, Radio
from gatewayd.link.target import Target
from gatewayd.protocol.gatt import GattProfile

# BlueZ silently drops longer values.
LONGEST_VALUE = 512
# Measured: 18, 42 and 51 kB/s with 1, 4 and 16 in flight.
WRITES_IN_FLIGHT = 16
UNREAD_LIMIT = 64 * 1024
CONNECT_TRIES = 3
# A connect fails now and then on a good link (a lost packet at the wrong moment), and not twice in a row.
RETRY_S = 0.5


class BleLink:
    """One device. `choose_radio` selects the adapter; `pair`: encrypt, and bond if there is no bond yet."""

    is_datagram = True
    vanishes_with_device = True

    def __init__(
        self,
        choose_radio: Callable[[], Radio],
        target: Target,
        profile: GattProfile,
        *,
        limits: Limits | None = None,
        pair: bool = True,
        waits_for_advertisement: bool = False,
    ) -> None:
        self._choose_radio = choose_radio
        self._radio: Radio | None = None
        self._target = target
        self._profile = profile
        self._limits = limits or Limits()
        self._pair = pair
        self._is_patient = waits_for_advertisement
        self._client: BleakClient | None = None
        self._outlet: BleakGATTCharacteristic | None = None
        self._forget()

    @property
    def max_datagram(self) -> int | None:
        """See Link. None while it is closed."""
        if self._outlet is None:
            return None
        return min(self._outlet.max_write_without_response_size, LONGEST_VALUE)

    async def open(self) -> None:
        """See Link; LinkError has the codes of `Radio.find` and `Radio.connect`, and `no_service`."""
        self._forget()
        radio = self._choose_radio()
        device = await radio.reserve(self._target, None if self._is_patient else self._limits.scan_s)
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

    async def close(self) -> None:
        """See Link. What BlueZ still has queued may be lost silently."""
        client, self._client, self._outlet = self._client, None, None
        for write in self._writes:
            write.cancel()
        if client is not None and self._radio is not None:
            await self._radio.disconnect(client)

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
        self._news = asyncio.Event()
        self._writes: set[asyncio.Task[None]] = set()
        self._lost: LinkLost | None = None

    async def _connect(self, radio: Radio, device: BLEDevice) -> BleakClient:
        """Connect, a few times if need be; what is wrong with the adapter or the bond is not tried again."""
        tries = 0
        while True:
            tries += 1
            try:
                return await radio.connect(device, self._limits, pair=self._pair, on_end=self._ended)
            except LinkError as error:
                if tries == CONNECT_TRIES or error.code != Code.CONNECT_FAILED:
                    raise
            await asyncio.sleep(RETRY_S)

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
                hint="check that it is the right device and that its firmware includes the receiver",
            )
        try:
            async with asyncio.timeout(self._limits.discovery_s):
                await client.start_notify(inlet, self._on_frame)
        except FOREIGN as error:
            raise translate_error(str(self._target), error, "connect_failed") from error
        self._outlet = outlet

    async def _write(
        self, client: BleakClient, outlet: BleakGATTCharacteristic, data: bytes, *, response: bool
    ) -> None:
        try:
            await client.write_gatt_char(outlet, data, response=response)
        except FOREIGN as error:
            self._lose(f"the write failed: {' '.join(map(str, error.args)) or type(error).__name__}")

    def _written(self, write: asyncio.Task[None]) -> None:
        self._writes.discard(write)
        if not write.cancelled() and (error := write.exception()) is not None:
            self._lose(f"the write failed: {error}")

    def _on_frame(self, _: BleakGATTCharacteristic, data: bytearray) -> None:
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
