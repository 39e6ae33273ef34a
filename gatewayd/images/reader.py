"""Read messages from the spool, verify them, and provide the images to send.

A message is opened once for its verdict and the transfers that follow: the last one is kept for a while, so
that it is still in memory for the first device, and for an attempt after a short break. Devices that take the
same image share one buffer. The plaintext of encrypted firmware exists only in memory.
"""

import asyncio
import weakref

from gatewayd.config import Device, Settings
from gatewayd.errors import FirmwareError
from gatewayd.images.opened import OpenFirmware, open_firmware
from gatewayd.jobs.eligibility import profile_of
from gatewayd.jobs.model import DecodeProfile, Verdict
from gatewayd.ota.container import SMALLEST_SIGNED_BYTES
from gatewayd.ota.keys import KeySet
from gatewayd.ota.rules import Payload
from gatewayd.store.spool import Spool

# The first transfer follows a verdict within a second or two, and most attempts follow each other within a
# minute. Only the latest message is kept: 16 MiB decrypted is not small on a Pi.
KEEP_S = 60.0

__all__ = ["KEEP_S", "FirmwareReader", "OpenFirmware"]


class FirmwareReader:
    """Opens messages of a spool, in a thread, one at a time."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._turn = asyncio.Lock()
        self._opened: weakref.WeakValueDictionary[tuple[str, str], OpenFirmware] = (
            weakref.WeakValueDictionary()
        )
        self._kept: OpenFirmware | None = None
        self._release: asyncio.TimerHandle | None = None

    async def verify(self, sha256: str, profile: DecodeProfile, keys: KeySet | None) -> Verdict:
        """Return the verdict on a message with this profile. Raises HostError if the spool cannot be read."""
        try:
            return (await self.open(sha256, profile, keys)).verdict()
        except FirmwareError as error:
            return _refusal(error)

    async def preview(self, message: bytes, profile: DecodeProfile, keys: KeySet | None) -> Verdict:
        """Return the verdict that `verify` would give on a message that is not in the spool."""
        async with self._turn:
            try:
                return (await asyncio.to_thread(open_firmware, message, profile, keys)).verdict()
            except FirmwareError as error:
                return _refusal(error)

    async def examine(
        self, message: bytes, sha256: str, profile: DecodeProfile, keys: KeySet | None
    ) -> Verdict:
        """Return the verdict on a message that may be stored next; if it is genuine, keep it opened."""
        async with self._turn:
            self._let_go()  # keeping both would take twice the memory
            try:
                opened = await asyncio.to_thread(open_firmware, message, profile, keys)
            except FirmwareError as error:
                return _refusal(error)
            self._opened[sha256, profile.key] = opened
            self._keep(opened)
            return opened.verdict()

    async def is_signed(self, settings: Settings, app_id: str, message: bytes) -> bool:
        """Whether a device of the application would take the message for genuine by its signature."""
        if len(message) < SMALLEST_SIGNED_BYTES:
            return False
        readings: dict[str, Device] = {}
        for device in settings.devices:
            if device.app_id == app_id and device.payload is Payload.ADVANCED:
                readings.setdefault(profile_of(settings, device).key, device)
        for device in readings.values():
            verdict = await self.preview(message, profile_of(settings, device), settings.keys_of(device))
            if verdict.is_genuine and verdict.timestamp_ms is not None:
                return True
        return False

    async def open(self, sha256: str, profile: DecodeProfile, keys: KeySet | None) -> OpenFirmware:
        """Return the opened message, shared by all callers that hold it. Raises HostError, FirmwareError."""
        async with self._turn:
            opened = self._opened.get((sha256, profile.key))
            if opened is None:
                self._let_go()  # keeping both would take twice the memory
                opened = await asyncio.to_thread(
                    lambda: open_firmware(self._spool.read(sha256), profile, keys)
                )
                self._opened[sha256, profile.key] = opened
            self._keep(opened)
            return opened

    def _keep(self, opened: OpenFirmware) -> None:
        self._let_go()
        self._kept = opened
        self._release = asyncio.get_running_loop().call_later(KEEP_S, self._let_go)

    def _let_go(self) -> None:
        self._kept = None
        if self._release is not None:
            self._release.cancel()
            self._release = None


def _refusal(error: FirmwareError) -> Verdict:
    return Verdict(code=error.code, reason=str(error))
