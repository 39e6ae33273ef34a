"""A virtual device on a pty: it drives a terminal, two lines and a receiver.

The gateway's pty buffer is the UART's queue: bytes are read from it only as fast as the line carries them.
"""

import asyncio
import fcntl
import mmap
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gatewayd.errors import HostError
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.file_store import DirectoryFileStore
from gatewayd.simulator.flash import BLANK, Flash
from gatewayd.simulator.line import Line, LineProfile
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver
from gatewayd.simulator.terminal import Terminal

_FLASH = "flash.bin"
_SAME_SPEED = 0.03  # relative difference of speeds up to which both ends understand each other
_CRASH_CHECK_S = 1.0


def make_clock() -> Callable[[], float]:
    """Return a clock that starts at wall-clock time but never jumps, for stored trials and paced lines."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


def open_device(
    state: Path, profile: DeviceProfile, log: Callable[[str], None], clock: Callable[[], float]
) -> Receiver:
    """Start the device stored in `state`, a new one if the directory is empty. Raises HostError."""
    try:
        bootloader = Bootloader(DirectoryFileStore(state), profile)
        kept = bootloader.profile
        cells = _open_cells(state / _FLASH, kept.flash_size)
    except OSError as error:
        raise HostError(
            f"cannot use the state directory {state}: {error}", code="bad_device_state"
        ) from error
    flash = Flash(kept.flash_size, erase_block=kept.erase_block, write_unit=kept.write_unit, storage=cells)
    return Receiver(profile, flash=flash, bootloader=bootloader, log=log, now=clock())


def _open_cells(path: Path, size: int) -> mmap.mmap:
    """Map the flash into memory, with an exclusive lock: what is written survives a kill."""
    if not path.exists():
        new = path.with_suffix(".new")
        new.write_bytes(bytes([BLANK]) * size)
        new.replace(path)
    if path.stat().st_size != size:
        raise HostError(
            f"{path} has {path.stat().st_size} bytes, expected {size}",
            code="bad_device_state",
            hint="remove the state directory for a new device",
        )
    lock = os.open(path, os.O_RDONLY)  # stays open, and with it the lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise HostError(f"another process runs the device in {path.parent}", code="device_in_use") from None
    # Opened a second time: a lock on the mapped file outlives a killed process while `ps` reads its memory.
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), size)


class UartDevice(Protocol):
    """What runs on a terminal, such as a Receiver; all methods as a Receiver has them."""

    @property
    def baud(self) -> int:
        """The speed it listens and sends at."""

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the line."""

    def data_to_send(self, now: float) -> bytes:
        """Return bytes for the line, or nothing."""

    def next_deadline(self) -> float | None:
        """When something is due next."""

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""

    def power_cut(self, now: float) -> None:
        """Off and on again."""


class VirtualUart:
    """Runs a receiver on a terminal. `power_cut_after`: received bytes until the power fails, once."""

    def __init__(
        self,
        receiver: UartDevice,
        terminal: Terminal,
        line: LineProfile,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        power_cut_after: int | None = None,
    ) -> None:
        self._receiver = receiver
        self._terminal = terminal
        self._clock = clock
        self._rng = rng
        self._to_device = Line(line, random.Random(rng.random()))  # noqa: S311 - faults, not keys
        self._to_gateway = Line(line, random.Random(rng.random()))  # noqa: S311
        self._until_cut = power_cut_after
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._crash_check_at = clock()
        self._failed: asyncio.Future[None] = self._loop.create_future()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            self._turn()
            await asyncio.wait((stopping, self._failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            self._loop.remove_reader(self._terminal.master)
            if self._timer is not None:
                self._timer.cancel()
        if self._failed.done():
            self._failed.result()

    def _turn(self) -> None:
        """Do everything that is due, and schedule the next turn."""
        try:
            now = self._clock()
            self._pull(now)
            for data, baud in self._to_device.arrived(now):
                self._hear(data, baud, now)
            due = self._receiver.next_deadline()
            if due is not None and now >= due:
                self._receiver.handle_timeout(now)
            self._collect(now)
            for data, baud in self._to_gateway.arrived(now):
                self._terminal.write(self._as_heard(data, baud, self._terminal.baud()))
            self._check_for_crash(now)
            self._wait(now)
        except Exception as error:  # noqa: BLE001 - a callback's error would only be logged; `run` raises it
            self._failed.set_exception(error)

    def _pull(self, now: float) -> None:
        room = self._to_device.room(now)
        if room:
            data = self._terminal.read(room)
            self._to_device.pulled(room, data, now, self._terminal.baud() if data else 0)

    def _hear(self, data: bytes, baud: int, now: float) -> None:
        data = self._as_heard(data, baud, self._receiver.baud)
        if self._until_cut is not None and len(data) >= self._until_cut:
            self._receiver.receive_data(data[: self._until_cut], now)
            self._until_cut = None
            self._receiver.power_cut(now)
            return
        if self._until_cut is not None:
            self._until_cut -= len(data)
        self._receiver.receive_data(data, now)

    def _collect(self, now: float) -> None:
        baud = self._receiver.baud
        while wire := self._receiver.data_to_send(now):
            self._to_gateway.put(wire, now, baud)

    def _as_heard(self, data: bytes, sent_at: int, heard_at: int) -> bytes:
        """Return noise if the two ends' speeds differ."""
        if abs(sent_at - heard_at) <= heard_at * _SAME_SPEED:
            return data
        return self._rng.randbytes(len(data))

    def _check_for_crash(self, now: float) -> None:
        if now >= self._crash_check_at:
            self._crash_check_at = now + _CRASH_CHECK_S
            self._terminal.free_after_crash()

    def _wait(self, now: float) -> None:
        due = [
            self._to_device.next_arrival(),
            self._to_gateway.next_arrival(),
            self._receiver.next_deadline(),
            self._crash_check_at,
        ]
        if self._to_device.room(now):
            self._loop.add_reader(self._terminal.master, self._turn)
        else:
            self._loop.remove_reader(self._terminal.master)
            due.append(self._to_device.free_at())
        if self._timer is not None:
            self._timer.cancel()
        wait_s = min(at for at in due if at is not None) - now
        self._timer = self._loop.call_later(max(0.0, wait_s), self._turn)
