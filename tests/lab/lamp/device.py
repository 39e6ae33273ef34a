"""A lamp in memory, and the link to it."""

import asyncio
import zlib

from gatewayd.errors import LinkError, LinkLost
from gatewayd.link.base import LeadsToOne
from lab.jobs import clock

BOOT_S = 3.0


def nothing() -> None:
    """Let pass what a test does not look at."""


class Lamp:
    """What it has, what goes wrong with it, and what was done to it."""

    def __init__(self, image: bytes, version: str) -> None:
        self.running, self.version = image, version
        self.old = (image, version)
        self.state = "steady"
        self.slot = b""
        self.slot_crc = ""
        self.boots_at = 0.0
        self.gives_up = False
        self.next_version = version
        self.puts = 0
        self.boots: list[bytes] = []
        self.on_arm = self.on_boot = nothing

    @property
    def is_up(self) -> bool:
        return clock() >= self.boots_at

    def answer(self, request: str) -> str | None:
        """Answer a request; None: it restarts."""
        words = request.split(" ")
        match words[0]:
            case "who?":
                return f"is {self.version} {_crc(self.running)} {self.state}"
            case "put":
                return f"at {self._put(*words[1:])}"
            case "arm":
                assert words[1] == _crc(self.slot)
                self.state = "armed"
                self.on_arm()
                return "armed"
            case "keep":
                self.state = "steady"
                return "kept"
        self.on_boot()
        self.restart()
        return None

    def restart(self) -> None:
        """Boot: into the new image if it is armed, and back to the old one if that is not confirmed."""
        self.boots_at = clock() + BOOT_S
        if self.state == "armed" and not self.gives_up:
            self.old = (self.running, self.version)
            self.running, self.version, self.state = self.slot, self.next_version, "trial"
        elif self.state == "trial":
            (self.running, self.version), self.state = self.old, "steady"
        elif self.state == "armed":
            self.boots.append(self.slot)  # tried, and taken back by its bootloader
            self.state = "steady"
        self.boots.append(self.running)

    def _put(self, size: str, crc: str, offset: str, data: str) -> int:
        if crc != self.slot_crc:
            self.slot, self.slot_crc = b"", crc
        self.puts += bool(data)
        if int(offset) == len(self.slot) < int(size):
            self.slot += bytes.fromhex(data)
        return len(self.slot)


class LampLink(LeadsToOne):
    """See Link. It is gone while the lamp boots, as a port of its own USB would be."""

    is_datagram = False
    vanishes_with_device = True
    max_datagram = None

    def __init__(self, lamp: Lamp) -> None:
        self._lamp = lamp
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def open(self) -> None:
        await asyncio.sleep(0)
        if not self._lamp.is_up:
            raise LinkError("/dev/lamp does not exist", code="link_missing")

    async def close(self) -> None:
        pass

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        assert not confirmed
        await asyncio.sleep(0.01)
        if not self._lamp.is_up:
            raise LinkLost("/dev/lamp is gone")
        if (answer := self._lamp.answer(data.decode())) is not None:
            self._answers.put_nowait(answer.encode())

    async def receive(self) -> bytes:
        return await self._answers.get()

    async def set_baud(self, baud: int) -> None:
        raise AssertionError(baud)


def _crc(image: bytes) -> str:
    return zlib.crc32(image).to_bytes(4, "big").hex()
