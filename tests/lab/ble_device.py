"""Virtual devices on a virtual radio, with faults: the receiver in Python, and the one in C behind a shim."""

import asyncio
import contextlib
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bumble.core import UUID

from gatewayd.protocol.rcp.kind import GATT
from gatewayd.protocol.rcp.packets import SHORT_OVERHEAD
from gatewayd.simulator.ble import VirtualBle
from gatewayd.simulator.peripheral import Peripheral
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver
from lab.bumble_radio import Air

if TYPE_CHECKING:
    from bumble.device import Connection

SHORT = 0x80
RCP_DEVICE = Path(__file__).parents[2] / "device" / "build" / "rcp-device"


class Tag:
    """A device, and what befalls it.

    `cut_after`: bytes of the image after which the connection ends, once; `dies_after`: after which nothing
    arrives any more, until there is another connection, once; `in_bootloader`: for how many connections after
    it was given an image it does not offer RCP.
    """

    def __init__(self, peripheral: Peripheral, profile: DeviceProfile) -> None:
        """Put the faults between the radio and what the peripheral's callbacks lead to."""
        self.peripheral = peripheral
        self.profile = profile
        self.data_bytes = 0
        self.cut_after: int | None = None
        self.dies_after: int | None = None
        self.in_bootloader = 0
        self._connection: Connection | None = None
        self._services = list(peripheral.device.gatt_server.attributes)
        self.is_deaf = False
        self._deliver, peripheral.on_frame = peripheral.on_frame, self._hear
        self._connect, peripheral.on_connected = peripheral.on_connected, self._connected
        self._loop = asyncio.get_running_loop()

    @property
    def running_image(self) -> bytes | None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def _connected(self, max_datagram: int) -> None:
        self.is_deaf = False
        if self._connection is not self.peripheral.connection:
            self._connection = self.peripheral.connection
            self._show_services(is_bootloader=self.data_bytes > 0 and self.in_bootloader > 0)
        self._connect(max_datagram)

    def _show_services(self, *, is_bootloader: bool) -> None:
        """Offer RCP or not, from this connection on. Its service is behind those that every device has."""
        rcp = next(
            at for at, one in enumerate(self._services) if getattr(one, "uuid", None) == UUID(GATT.service)
        )
        self.peripheral.device.gatt_server.attributes[:] = self._services[: rcp if is_bootloader else None]
        self.in_bootloader -= is_bootloader

    def _hear(self, packet: bytes) -> None:
        if packet[0] & SHORT:
            self.data_bytes += len(packet) - SHORT_OVERHEAD
        if self.cut_after is not None and self.data_bytes >= self.cut_after:
            self.cut_after = None
            self._loop.create_task(self.peripheral.drop())
        elif self.dies_after is not None and self.data_bytes >= self.dies_after:
            self.dies_after, self.is_deaf = None, True
        elif not self.is_deaf:
            self._deliver(packet)


class PythonTag(Tag):
    """The receiver in Python."""

    def __init__(self, peripheral: Peripheral, receiver: Receiver) -> None:
        clock = asyncio.get_running_loop().time
        self.receiver = receiver
        self._running = asyncio.create_task(
            VirtualBle(receiver, peripheral, clock=clock).run(asyncio.Event())
        )
        super().__init__(peripheral, receiver.profile)

    @classmethod
    async def at(
        cls, air: Air, name: str, address: str, profile: DeviceProfile, **settings: Any
    ) -> "PythonTag":
        """Put a device into the air. Settings are those of a Peripheral."""
        ids = random.Random(address)
        boot_ids = iter(lambda: ids.randrange(1, 2**32), 0)
        receiver = Receiver(profile, boot_ids=boot_ids, now=asyncio.get_running_loop().time())
        return cls(await air.peripheral(name, address, **settings), receiver)

    @property
    def running_image(self) -> bytes | None:
        return self.receiver.running_image

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self._running.cancelled():
            self._running.result()


class CTag(Tag):
    """The receiver in C, `rcp-device --datagram`: writes go to its socket, what comes from there is notified.

    It ends the socket's connection when it loses its power or restarts, and this ends the radio's.
    """

    def __init__(
        self,
        peripheral: Peripheral,
        profile: DeviceProfile,
        process: asyncio.subprocess.Process,
        folder: Path,
    ) -> None:
        self._process = process
        self._folder = folder
        self._socket: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        peripheral.on_frame = self._write
        peripheral.on_connected = self._open
        self._advertise_again = peripheral.on_disconnected
        peripheral.on_disconnected = self._gone
        super().__init__(peripheral, profile)

    @classmethod
    async def at(
        cls,
        air: Air,
        name: str,
        address: str,
        profile: DeviceProfile,
        *,
        folder: Path,
        mtu: int,
        **settings: Any,
    ) -> "CTag":
        """Put a device into the air that lives in a folder. Settings are those of a Peripheral."""
        what = (f"--app-id={profile.app_id}", f"--version={profile.version}", "--slot-size=0x20000")
        how = (
            f"--datagram={mtu}",
            f"--boot-ms={profile.boot_s * 1000:.0f}",
            f"--slot-address={profile.slot_address}",
        )
        where = (f"--port={folder / 'port'}", f"--state={folder / 'state'}")
        process = await asyncio.create_subprocess_exec(RCP_DEVICE, *where, *what, *how, stderr=-1)
        assert process.stderr is not None
        while b"listens" not in (line := await process.stderr.readline()):
            assert line, "it ended"
        return cls(await air.peripheral(name, address, mtu=mtu, **settings), profile, process, folder)

    @property
    def running_image(self) -> bytes | None:
        return (self._folder / "state" / "active.bin").read_bytes()

    async def close(self) -> None:
        self._gone()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()

    def _open(self, _: int) -> None:
        """Connect to it; called again when the MTU is known, which it knows already."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            self._socket.connect(str(self._folder / "port"))
            self._reading = self._loop.create_task(self._read(self._socket))

    def _write(self, packet: bytes) -> None:
        if self._socket is not None:
            with contextlib.suppress(ConnectionError):  # it restarts; `_read` notices
                self._socket.send(packet)

    async def _read(self, connected: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            while packet := await self._loop.sock_recv(connected, 512):
                await self.peripheral.notify(packet)
        await self.peripheral.drop()

    def _gone(self) -> None:
        if self._socket is not None and self._reading is not None:
            self._reading.cancel()
            self._socket.close()
            self._socket = None
            self._advertise_again()
