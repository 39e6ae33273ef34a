"""Ports as processes: flash, bootloader and watchdog behind the stubs (hosts/), and a real gateway."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.farm import KEY, Gateway, farm, image_of

from gatewayd.ota.container import Rom, build, encrypt
from gatewayd.ota.patch import PatchEncoding, encode_patch
from suites.forms.work import STUBS, WARNINGS, BuildError, Work

SIZE = 60_000
FLASH_SIZE = 4 << 20
LINE = "4.3"
HOSTS = STUBS.parent / "hosts"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
OPTIONS = (*WARNINGS, "-g", *SANITIZERS)


@dataclass(frozen=True)
class Host:
    """A port as a process: where its two slots are, which byte of its flash says which of them is booted."""

    slots: tuple[int, int]
    boot_slot: int
    settings: dict[str, str]


# One image suits both ROMs: the gateway compares the low 20 bits of the address.
SMING = Host((0x2000, 0x102000), 0x1000, {"slot_match": "low20"})
ESP_IDF = Host((0x10000, 0x190000), 0xD000, {})


def sming_runs(work: Work) -> str:
    """Updates into both ROMs, one with a power cut, and an image that hangs, which goes back."""
    app = work.unpack("gatewayd-rcp") / "ports" / "sming" / "app"
    options = (*OPTIONS, "-DSTUB_REGISTERS", f"-I{STUBS / 'sming'}")
    plus = ("-std=gnu++17", "-DVERSION=host_version()", "-include", HOSTS / "sming.h")
    work.run("c++", *plus, *options, "-c", app / "application.cpp", HOSTS / "sming.cpp")
    work.run("cc", *options, "-c", app / "rcp.c", app / "rcp_sha256.c")
    objects = ("application.o", "sming.o", "rcp.o", "rcp_sha256.o")
    work.run("c++", *SANITIZERS, "-o", "host", *objects, "-lutil")
    return asyncio.run(_play(work.folder, SMING))


def esp_idf_runs(work: Work) -> str:
    """Do the same with the port to ESP-IDF, whose slots.c the Arduino sketch has, too."""
    component = work.unpack("gatewayd-rcp-esp-idf")
    port = component / "ports" / "esp-idf" / "main"
    sources = (port / "main.c", port / "slots.c", component / "rcp.c", component / "rcp_sha256.c")
    includes = (f"-I{STUBS / 'esp-idf' / 'include'}", f"-I{component}")
    work.run("cc", *OPTIONS, *includes, "-o", "host", *sources, HOSTS / "esp_idf.c", "-lutil")
    return asyncio.run(_play(work.folder, ESP_IDF))


def _image(version: str, kind: str = "good") -> bytes:
    """Return an image as the hosts read it: a line that says what it is and how large."""
    head = f"{version} {kind} {SIZE} \0".encode()
    return head + image_of(int(version[-1]), SIZE - len(head))


class Esp:
    """A chip: its flash, and the process while it has power."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.folder = folder
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        flash = bytearray(b"\xff" * FLASH_SIZE)
        first = _image(f"{LINE}.1")
        at = host.slots[0]
        flash[at : at + len(first)] = first
        flash[host.boot_slot] = 0
        (folder / "flash.bin").write_bytes(flash)

    def power_on(self) -> None:
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen([self.folder.parent / "host", self.folder], stdout=log, stderr=log)

    def cut_power(self) -> None:
        """What rBoot has in the clock's memory is gone as well."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(120)
        (self.folder / "rtc.bin").unlink(missing_ok=True)

    @property
    def boot_slot(self) -> int:
        return (self.folder / "flash.bin").read_bytes()[self._host.boot_slot]

    def has(self, slot: int, image: bytes) -> bool:
        at = self._host.slots[slot]
        return (self.folder / "flash.bin").read_bytes()[at : at + len(image)] == image

    def assert_lives(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise BuildError((self.folder / "log").read_text())


@contextlib.asynccontextmanager
async def _stage(folder: Path, host: Host) -> AsyncIterator[tuple[Gateway, Esp]]:
    esp = Esp(folder / "esp", host)
    async with farm(folder, "esp") as whole:
        whole.gateway.config["devices"] = [
            {
                "name": "esp",
                "app_id": "pump",
                "version": f"{LINE}.1",
                "payload": "advanced",
                "keys": "k",
                "link": {"uart": str(esp.folder / "port"), "baud": 115200},
            }
            | host.settings
        ]
        esp.power_on()
        whole.gateway.start()
        try:
            await _until(whole.gateway, esp, state="idle")
            yield whole.gateway, esp
        finally:
            esp.cut_power()


async def _play(folder: Path, host: Host) -> str:
    first_slot = host.slots[0]
    async with _stage(folder, host) as (gateway, esp):
        images = {patch: _image(f"{LINE}.{patch}", "hangs" if patch == 4 else "good") for patch in (2, 3, 4)}
        await _publish(gateway, first_slot, 2, images[2])
        await _until(gateway, esp, state="succeeded", installed_version=f"{LINE}.2")
        _assert_runs(esp, 1, images[2])
        await _publish(gateway, first_slot, 3, images[3])
        await _until(gateway, esp, state="transferring")
        esp.cut_power()
        esp.power_on()
        await _until(gateway, esp, state="succeeded", installed_version=f"{LINE}.3")
        _assert_runs(esp, 0, images[3])
        await _publish(gateway, first_slot, 4, images[4])
        await _until(gateway, esp, state="failed", code="reverted", installed_version=f"{LINE}.3")
        _assert_runs(esp, 0, images[3])
    return "the port as a process with a real gateway: both slots, a power cut, an image that hangs"


async def _publish(gateway: Gateway, address: int, patch: int, image: bytes) -> None:
    plain = build([Rom(address, image)], 4_000_000_000_000 + patch * 60_000, KEY.seed)
    message = encode_patch(patch, PatchEncoding.VARINT) + encrypt(plain, KEY.stream_key)
    await gateway.send(f"/a/pump/u/{LINE}", message)


async def _until(gateway: Gateway, esp: Esp, **wanted: str) -> None:
    def reached() -> bool:
        esp.assert_lives()
        status: dict[str, Any] = gateway.status.get("esp", {})
        return wanted.items() <= status.items()

    await gateway.until(reached, f"{wanted}", 240)


def _assert_runs(esp: Esp, slot: int, image: bytes) -> None:
    if esp.boot_slot != slot or not esp.has(slot, image):
        raise BuildError(f"slot {esp.boot_slot} is booted, not {slot}, or it has other bytes")
