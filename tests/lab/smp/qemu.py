"""One emulated board: QEMU as nobody, without a network, held by QMP, its UART a Unix socket.

A board outlives its QEMU: cutting the power keeps the flash, and switching it on again starts another QEMU
with it. Flash is written through the gdb stub, since QEMU's loader would write it again at each reset of the
guest and so undo every update. What runs is third-party code; see suites/bench/smp_server.py.
"""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suites.bench.smp_server import as_nobody, sandboxed
from suites.bench.transfer import until_there

_ANSWER_S = 60.0
_GDB_CHUNK = 1024  # bytes in one packet of the gdb stub, which takes 4096 characters


@dataclass(frozen=True)
class Machine:
    """What QEMU emulates.

    Attributes:
        flash_size: kept over power cuts, from `flash_at` on; 0: nothing is.
        loads: files put into memory at each reset: name, and address or None for hex.
        has_log: whether its log has a UART of its own, which leads nowhere.
    """

    words: tuple[str, ...]
    flash_size: int = 0
    flash_at: int = 0
    loads: tuple[tuple[str, int | None], ...] = ()
    has_log: bool = False


MICROBIT = Machine(("-machine", "microbit", "-cpu", "cortex-m0"), flash_size=0x40000)
MPS2_WORDS = ("-machine", "mps2-an385", "-cpu", "cortex-m3")
MPS2_SLOTS = 0x20050000  # two of 512 KiB, in memory that a restart keeps
MPS2_SLOT_SIZE = 0x80000


def mps2(bootloader: str) -> Machine:
    """Return the larger board, whose bootloader loads the newer of two images into RAM."""
    return Machine(
        MPS2_WORDS,
        flash_size=2 * MPS2_SLOT_SIZE,
        flash_at=MPS2_SLOTS,
        loads=((bootloader, None),),
        has_log=True,
    )


@dataclass
class Board:
    """See the module's text. `folder` holds what `loads` names."""

    machine: Machine
    folder: Path
    flash: bytes = b""
    _work: Path = field(init=False)
    _process: asyncio.subprocess.Process | None = None
    _qmp: "_Qmp | None" = None

    def __post_init__(self) -> None:
        self._work = Path(tempfile.mkdtemp(prefix="gatewayd-smp-"))
        self._work.chmod(0o755)
        for name, _ in self.machine.loads:
            shutil.copyfile(self.folder / name, self._work / name)
            (self._work / name).chmod(0o644)
        nobody = pwd.getpwnam("nobody")
        self._shared.mkdir()
        os.chown(self._shared, nobody.pw_uid, nobody.pw_gid)

    @property
    def _shared(self) -> Path:
        return self._work / "shared"

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._process is not None

    async def switch_on(self) -> socket.socket:
        """Start it with the flash it has; returns its UART."""
        assert not self.is_on
        for old in self._shared.iterdir():
            old.unlink()
        words = [*as_nobody(), *sandboxed(self.machine.words, "shared/uart"), *self._loaders()]
        words += [
            "-qmp",
            "unix:shared/qmp,server=on,wait=off",
            "-gdb",
            "unix:shared/gdb,server=on,wait=off",
            "-S",
        ]
        self._process = await asyncio.create_subprocess_exec(
            *words, cwd=self._work, stderr=asyncio.subprocess.DEVNULL
        )
        for name in ("uart", "qmp", "gdb"):
            await until_there(self._shared / name)
        self._qmp = await _Qmp.connect(self._shared / "qmp")
        if self.flash:
            await _write_memory(self._shared / "gdb", self.machine.flash_at, self.flash)
            await self._qmp.ask("system_reset")  # the processor reads its vectors again
        uart = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        uart.connect(str(self._shared / "uart"))
        uart.setblocking(False)
        await self._qmp.ask("cont")
        return uart

    async def cut_power(self) -> None:
        """Stop it between two instructions, and keep its flash."""
        if self._qmp is not None and self.machine.flash_size:
            await self._qmp.ask("stop")
            kept = self._shared / "flash"
            # As the processor sees it: the flash is not in the address space that `pmemsave` reads.
            where = {"val": self.machine.flash_at, "size": self.machine.flash_size}
            await self._qmp.ask("memsave", **where, filename="shared/flash")
            self.flash = kept.read_bytes()
        await self._end()

    async def close(self) -> None:
        """End it for good."""
        await self._end()
        shutil.rmtree(self._work, ignore_errors=True)

    async def _end(self) -> None:
        if self._qmp is not None:
            self._qmp.close()
        process, self._process, self._qmp = self._process, None, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _loaders(self) -> list[str]:
        words = ["-serial", "null"] if self.machine.has_log else []
        for name, address in self.machine.loads:
            at = "" if address is None else f",addr={address:#x}"
            words += ["-device", f"loader,file={name}{at}"]
        return words


class _Qmp:
    """QEMU's control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, path: Path) -> "_Qmp":
        qmp = cls(*await asyncio.open_unix_connection(path))
        await qmp._message("QMP")
        await qmp.ask("qmp_capabilities")
        return qmp

    async def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command; returns what it answers."""
        self._writer.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        return await self._message("return")

    def close(self) -> None:
        self._writer.close()

    async def _message(self, key: str) -> Any:
        async with asyncio.timeout(_ANSWER_S):
            while True:
                message = json.loads(await self._reader.readline())
                assert "error" not in message, message
                if key in message:
                    return message[key]


async def _write_memory(gdb: Path, start: int, content: bytes) -> None:
    """Write from an address on; only the stub writes to flash from outside."""
    reader, writer = await asyncio.open_unix_connection(gdb)
    async with asyncio.timeout(_ANSWER_S):
        for at in range(0, len(content), _GDB_CHUNK):
            chunk = content[at : at + _GDB_CHUNK]
            if start or chunk.count(0xFF) != len(chunk):  # flash is 0xFF already, memory is not
                await _gdb(reader, writer, f"M{start + at:x},{len(chunk):x}:{chunk.hex()}")
        await _gdb(reader, writer, "D")  # the stub lets go, and leaves the machine stopped or running
    writer.close()


async def _gdb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str) -> None:
    writer.write(f"${command}#{sum(command.encode()) % 256:02x}".encode())
    answer = await reader.readuntil(b"#")
    assert b"OK" in answer, (command[:20], answer)
    await reader.readexactly(2)
    writer.write(b"+")
