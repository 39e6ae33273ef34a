"""An emulated board behind a serial port: its lives one after the other, and the line between."""

import asyncio
import contextlib
import json
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Self

from gatewayd.simulator.line import LineProfile
from gatewayd.simulator.terminal import Terminal
from gatewayd.simulator.uart import make_clock
from suites.bench.paced_relay import PacedRelay
from suites.chip.board import Board
from suites.chip.flash import Flash, SwapRecord, state_size
from suites.chip.qemu import End, Qemu

BAUD = 115_200
_STACK_PAINT = 0x57A1C0DE
# From the end of one life to the begin of the next.
_OFF_S = 0.05
_CHANGE_LIMIT_S = 300.0


class CountingTerminal(Terminal):
    """A port that knows how many bytes the gateway has sent; while `is_cut` the chip hears none of them."""

    def __init__(self, path: Path, baud: int) -> None:
        super().__init__(path, baud)
        self.taken = 0
        self.is_cut = False

    def read(self, size: int) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return b"" if self.is_cut else data


class Chip:
    """What the gateway is connected to. `state` and `log` are for `lab.recorder.Witnesses`."""

    def __init__(self, folder: Path, board: Board, running: bytes, flip_rate: float = 0.0) -> None:
        self.state = folder / "device-chip"
        self.state.mkdir()
        self.log = folder / "device-chip.log"
        self.port = folder / "port-chip"
        self.terminal = CountingTerminal(self.port, BAUD)
        self.ends: Counter[End] = Counter()
        self.stack_bytes = 0
        self._first = running
        self._board = board
        self._profile = LineProfile(BAUD / 10, 0.002, flip_rate)
        self._flash_file, self._ram_file = self.state / "flash.bin", self.state / "ram.bin"
        self._flash_file.write_bytes(Flash.fresh(board, running).content)
        self._told: set[tuple[str, bytes]] = set()
        self._cut = asyncio.Event()
        self._qemu: Qemu | None = None
        self._living: asyncio.Task[None] | None = None
        self._note()

    async def __aenter__(self) -> Self:
        self.power_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.power_off()
        self.terminal.close()

    def config(self, **settings: Any) -> dict[str, Any]:
        """Return what the gateway's configuration says of it."""
        return {
            "name": "chip",
            "app_id": self._board.app_id,
            "version": "1.0.0",
            "payload": "advanced",
            "keys": "k",
            "link": {"uart": str(self.port), "baud": BAUD},
        } | settings

    @property
    def flash(self) -> Flash:
        """What was in its flash when its last life ended."""
        return Flash(self._board, self._flash_file.read_bytes())

    @property
    def record(self) -> SwapRecord:
        """What the bootloader had noted when the last life ended."""
        return self.flash.record

    @property
    def lives(self) -> int:
        """How many have ended."""
        return self.ends.total()

    def power_on(self) -> None:
        self._cut = asyncio.Event()
        self._living = asyncio.create_task(self._live())

    async def power_off(self) -> None:
        """Cut the power. Raises what went wrong in its life."""
        self._cut.set()
        if self._living is not None:
            await self._living

    async def cut_power(self) -> None:
        """Cut the power, and give it back."""
        await self.power_off()
        self.power_on()

    async def until_taken(self, size_bytes: int) -> None:
        """Return when the gateway has sent this many bytes since the port was made."""
        async with asyncio.timeout(_CHANGE_LIMIT_S):
            while self.terminal.taken < size_bytes:
                self.assert_lives()
                await asyncio.sleep(0.005)  # a pty has no event for that

    async def until_ended(self, lives: int) -> None:
        """Return when this many lives have ended."""
        async with asyncio.timeout(_CHANGE_LIMIT_S):
            while self.lives < lives:
                self.assert_lives()
                await asyncio.sleep(0.005)

    async def until_step(self, step: int) -> None:
        """Return when the bootloader has done this many steps of swapping, there and back taken together."""
        async with asyncio.timeout(_CHANGE_LIMIT_S):
            while (await self._record_now()).steps < step:
                self.assert_lives()
                await asyncio.sleep(0.005)

    async def until_started(self, starts: int) -> None:
        """Return when the bootloader has started the image on trial so many times."""
        async with asyncio.timeout(_CHANGE_LIMIT_S):
            while (await self._record_now()).starts < starts:
                self.assert_lives()
                await asyncio.sleep(0.005)

    async def _record_now(self) -> SwapRecord:
        if self._qemu is None:
            return self.record
        file = self.state / "record.bin"
        await self._qemu.copy(self._board.layout["SWAP_STATE"], state_size(self._board), file)
        return SwapRecord.read(self._board, file.read_bytes())

    def assert_lives(self) -> None:
        """Raise what went wrong in its life."""
        assert self._living is not None
        if self._living.done():
            self._living.result()

    async def _live(self) -> None:
        """Live until the power is cut; a reset begins a new life."""
        end = None
        while end is not End.CUT:
            qemu = await Qemu.start(self._board, self._flash_file)
            try:
                self._qemu = qemu
                end = await self._one_life(qemu)
            finally:
                self._qemu = None
                await qemu.close()
            self.ends[end] += 1
            self._note()
            await asyncio.sleep(_OFF_S)

    async def _one_life(self, qemu: Qemu) -> End:
        while self.terminal.read(1 << 16):
            pass  # what came while it had no power
        line = asyncio.create_task(PacedRelay(self.terminal, qemu.uart, self._profile, make_clock()).run())
        try:
            end = await qemu.until_end(self._cut)
            await qemu.save(self._board, self._flash_file, self._ram_file)
        finally:
            line.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await line
        return end

    def _note(self) -> None:
        """Note what the witnesses of a history want to know."""
        flash, record = self.flash, self.record
        version, running = flash.running
        (self.state / "device.json").write_text(json.dumps({"version": version}))
        (self.state / "active.bin").unlink(missing_ok=True)
        if running != self._first:
            (self.state / "active.bin").write_bytes(running)
        if self.lives > 0:
            self.stack_bytes = max(self.stack_bytes, _stack_used(self._board, self._ram_file.read_bytes()))
        if running != self._first and not record.is_swapping:
            self._tell("starts", version, running)
        if record.has_reverted:
            self._tell("starts", *flash.in_slot)
        if record.pages > 0 and record.forth == 0:
            self._tell("activates", *flash.in_slot)

    def _tell(self, verb: str, version: str, image: bytes) -> None:
        """Say once what was done with an image; what is none has no version either."""
        if not version or (verb, image) in self._told:
            return
        self._told.add((verb, image))
        with self.log.open("a") as log:
            log.write(f"{verb} {version}{' on trial' * (verb == 'starts')}\n")


def _stack_used(board: Board, ram: bytes) -> int:
    """Return how much of the stack was ever in use, that is no longer painted; 0 where nobody paints it."""
    if not board.nm:
        return 0
    end = _stack_end(board)
    words = struct.unpack_from(f"<{(len(ram) - end) // 4}I", ram, end)
    untouched = next((at for at, word in enumerate(words) if word != _STACK_PAINT), len(words))
    return 4 * (len(words) - untouched) if untouched else 0


def _stack_end(board: Board) -> int:
    command = [board.nm, str(board.built / f"{board.first}.elf")]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in symbols.splitlines() if line.endswith(" stack_end"))
    return int(line.split()[0], 16) - board.layout["RAM"]
