"""From a message in the spool to a verdict on it, and to the image that a device is sent.

Plaintext of encrypted firmware exists in memory only; devices that take the same image share one buffer.
"""

import asyncio
import hashlib
import weakref

from gatewayd.config import Device
from gatewayd.errors import FirmwareError
from gatewayd.jobs.model import DecodeProfile, RomFacts, Verdict
from gatewayd.ota.firmware import Firmware, image_for, read_firmware
from gatewayd.ota.keys import KeySet
from gatewayd.store.spool import Spool


class FirmwareReader:
    """Reads messages of a spool, in a thread, one at a time: 16 MiB decrypted is not small on a Pi."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._turn = asyncio.Lock()
        self._opened: weakref.WeakValueDictionary[tuple[str, str], OpenFirmware] = (
            weakref.WeakValueDictionary()
        )

    async def verify(self, sha256: str, reading: DecodeProfile, keys: KeySet | None) -> Verdict:
        """Say what the message is in this reading. Raises HostError when the spool cannot be read."""
        async with self._turn:
            return await asyncio.to_thread(lambda: _verify(self._spool.read(sha256), reading, keys))

    async def foretell(self, message: bytes, reading: DecodeProfile, keys: KeySet | None) -> Verdict:
        """Say what `verify` would make of a message that is not in the spool."""
        async with self._turn:
            return await asyncio.to_thread(_verify, message, reading, keys)

    async def open(self, sha256: str, reading: DecodeProfile, keys: KeySet | None) -> "OpenFirmware":
        """Return the opened message; the same one to all who hold it. Raises HostError, FirmwareError."""
        async with self._turn:
            opened = self._opened.get((sha256, reading.key))
            if opened is None:
                firmware = await asyncio.to_thread(lambda: _read(self._spool.read(sha256), reading, keys))
                opened = self._opened[sha256, reading.key] = OpenFirmware(firmware)
            return opened


class OpenFirmware:
    """A message that passed, kept for as long as somebody holds this."""

    def __init__(self, firmware: Firmware) -> None:
        self.firmware = firmware

    def image(self, device: Device, slot_address: int | None) -> tuple[bytes | memoryview, bytes]:
        """Return the bytes this device is sent and their SHA-256. Raises FirmwareError `no_rom_for_slot`."""
        content = image_for(
            self.firmware, deliver=device.deliver, slot_address=slot_address, slot_match=device.slot_match
        )
        return content, hashlib.sha256(content).digest()


def _verify(message: bytes, reading: DecodeProfile, keys: KeySet | None) -> Verdict:
    try:
        firmware = _read(message, reading, keys)
    except FirmwareError as error:
        return Verdict(code=error.code, reason=str(error))
    container = firmware.container
    return Verdict(
        patch=firmware.patch,
        body_sha256=hashlib.sha256(firmware.body).hexdigest(),
        body_size=len(firmware.body),
        container_sha256=container.sha256.hex() if container else "",
        timestamp_ms=firmware.authenticated_timestamp_ms,
        roms=tuple(
            RomFacts(rom.address, len(rom.content), hashlib.sha256(rom.content).hexdigest())
            for rom in (container.roms if container else ())
        ),
    )


def _read(message: bytes, reading: DecodeProfile, keys: KeySet | None) -> Firmware:
    return read_firmware(
        message,
        encoding=reading.patch_encoding,
        payload=reading.payload,
        keys=keys,
        allow_unsigned=reading.allow_unsigned,
    )
