"""The port to Sming as a process: flash, rBoot and a watchdog (hosts/sming.cpp), and a real gateway."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from lab.farm import KEY, Gateway, farm, image_of

from gatewayd.ota.container import Rom, build, encrypt
from gatewayd.ota.patch import PatchEncoding, encode_patch
from suites.forms.work import STUBS, WARNINGS, BuildError, Work

# The gateway compares the low 20 bits: one image suits both ROMs.
ROMS, CONFIG, FLASH_SIZE, SIZE = (0x2000, 0x102000), 0x1000, 4 << 20, 60_000
LINE = "4.3"
HOSTS = STUBS.parent / "hosts"


def sming_runs(work: Work) -> str:
    """Updates into both ROMs, one with a power cut, and an image that hangs, which goes back."""
    program = _compile(work)
    return asyncio.run(_play(work.folder, program))


def _compile(work: Work) -> Path:
    app = work.unpack("gatewayd-rcp") / "ports" / "sming" / "app"
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    options = (*WARNINGS, "-g", *sanitizers, "-DSTUB_REGISTERS", f"-I{STUBS / 'sming'}")
    plus = ("-std=gnu++17", "-DVERSION=host_version()", "-include", HOSTS / "sming.h")
    work.run("c++", *plus, *options, "-c", app / "application.cpp", HOSTS / "sming.cpp")
    work.run("cc", *options, "-c", app / "rcp.c", app / "rcp_sha256.c")
    objects = ("application.o", "sming.o", "rcp.o", "rcp_sha256.o")
    work.run("c++", *sanitizers, "-o", "sming", *objects, "-lutil")
    return work.folder / "sming"


def _image(version: str, kind: str = "good") -> bytes:
    return f"{version} {kind}\0".encode() + image_of(int(version[-1]), SIZE)


class Esp:
    """An ESP8266: its flash, and the process while it has power."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        flash = bytearray(b"\xff" * FLASH_SIZE)
        first = _image(f"{LINE}.1")
        flash[ROMS[0] : ROMS[0] + len(first)] = first
        flash[CONFIG] = 0
        (folder / "flash.bin").write_bytes(flash)

    def power_on(self) -> None:
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen([self._program, self.folder], stdout=log, stderr=log)

    def cut_power(self) -> None:
        """What rBoot has in the clock's memory is gone as well."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        (self.folder / "rtc.bin").unlink(missing_ok=True)

    @property
    def current_rom(self) -> int:
        return (self.folder / "flash.bin").read_bytes()[CONFIG]

    def has(self, rom: int, image: bytes) -> bool:
        return (self.folder / "flash.bin").read_bytes()[ROMS[rom] : ROMS[rom] + len(image)] == image

    def assert_lives(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise BuildError((self.folder / "log").read_text())


@contextlib.asynccontextmanager
async def _stage(folder: Path, program: Path) -> AsyncIterator[tuple[Gateway, Esp]]:
    esp = Esp(folder / "esp", program)
    async with farm(folder, "sming") as whole:
        whole.gateway.config["devices"] = [
            {
                "name": "esp",
                "app_id": "pump",
                "version": f"{LINE}.1",
                "payload": "advanced",
                "keys": "k",
                "slot_match": "low20",
                "link": {"uart": str(esp.folder / "port"), "baud": 115200},
            }
        ]
        esp.power_on()
        whole.gateway.start()
        try:
            await _until(whole.gateway, esp, state="idle")
            yield whole.gateway, esp
        finally:
            esp.cut_power()


async def _play(folder: Path, program: Path) -> str:
    async with _stage(folder, program) as (gateway, esp):
        images = {patch: _image(f"{LINE}.{patch}", "hangs" if patch == 4 else "good") for patch in (2, 3, 4)}
        await _publish(gateway, 2, images[2])
        await _until(gateway, esp, state="succeeded", installed_version=f"{LINE}.2")
        _assert_runs(esp, 1, images[2])
        await _publish(gateway, 3, images[3])
        await _until(gateway, esp, state="transferring")
        esp.cut_power()
        esp.power_on()
        await _until(gateway, esp, state="succeeded", installed_version=f"{LINE}.3")
        _assert_runs(esp, 0, images[3])
        await _publish(gateway, 4, images[4])
        await _until(gateway, esp, state="failed", code="reverted", installed_version=f"{LINE}.3")
        _assert_runs(esp, 0, images[3])
    return "the same port as a process with a real gateway: both ROMs, a power cut, an image that hangs"


async def _publish(gateway: Gateway, patch: int, image: bytes) -> None:
    plain = build([Rom(ROMS[0], image)], 4_000_000_000_000 + patch * 60_000, KEY.seed)
    message = encode_patch(patch, PatchEncoding.VARINT) + encrypt(plain, KEY.stream_key)
    await gateway.send(f"/a/pump/u/{LINE}", message)


async def _until(gateway: Gateway, esp: Esp, **wanted: str) -> None:
    def reached() -> bool:
        esp.assert_lives()
        status: dict[str, Any] = gateway.status.get("esp", {})
        return wanted.items() <= status.items()

    await gateway.until(reached, f"{wanted}", 60)


def _assert_runs(esp: Esp, rom: int, image: bytes) -> None:
    if esp.current_rom != rom or not esp.has(rom, image):
        raise BuildError(f"ROM {esp.current_rom} is rBoot's, not {rom}, or it has other bytes")
