"""Firmware that passed verification, with the facts of each image, computed in one pass over its bytes."""

import hashlib

from gatewayd.config import Device
from gatewayd.jobs.model import DecodeProfile, RomFacts, Verdict
from gatewayd.ota.firmware import Firmware, image_for, read_firmware
from gatewayd.ota.keys import KeySet
from gatewayd.protocol.kind import ProtocolKind
from gatewayd.protocol.registry import PROTOCOLS


class OpenFirmware:
    """Decrypted, verified and hashed firmware. All devices that take an image share its buffer.

    Each part is hashed once, here: the body as it was published, and each ROM in it.
    """

    def __init__(self, firmware: Firmware, kind: ProtocolKind) -> None:
        """Raises FirmwareError where an image is none in the protocol."""
        self._firmware = firmware
        container = firmware.container
        self._body_sha256 = (
            container.sha256  # a plain container's body is its plain form, which is hashed already
            if container is not None and not container.encrypted
            else hashlib.sha256(firmware.body).digest()
        )
        self._roms = () if container is None else container.roms
        self._rom_sha256 = [hashlib.sha256(rom.content).digest() for rom in self._roms]
        self._own = [_own(kind, rom.content) for rom in self._roms]
        self._body_own = _own(kind, firmware.body) if container is None else ("", "")

    def verdict(self) -> Verdict:
        """Return the facts that are stored and used for planning."""
        container = self._firmware.container
        return Verdict(
            patch=self._firmware.patch,
            body_sha256=self._body_sha256.hex(),
            body_size=len(self._firmware.body),
            container_sha256=container.sha256.hex() if container else "",
            timestamp_ms=self._firmware.authenticated_timestamp_ms,
            roms=tuple(
                RomFacts(rom.address, len(rom.content), sha256.hex(), *own)
                for rom, sha256, own in zip(self._roms, self._rom_sha256, self._own, strict=True)
            ),
            body_own_id=self._body_own[0],
            body_own_version=self._body_own[1],
        )

    def image(self, device: Device, slot_address: int | None) -> tuple[bytes | memoryview, bytes]:
        """Return the bytes for this device, and their SHA-256. Raises FirmwareError `no_rom_for_slot`."""
        content = image_for(
            self._firmware, deliver=device.deliver, slot_address=slot_address, slot_match=device.slot_match
        )
        return content, self._sha256_of(content)

    def _sha256_of(self, content: bytes | memoryview) -> bytes:
        for rom, sha256 in zip(self._roms, self._rom_sha256, strict=True):
            if rom.content is content:
                return sha256
        return self._body_sha256


def open_firmware(message: bytes, profile: DecodeProfile, keys: KeySet | None) -> OpenFirmware:
    """Decrypt, verify and hash a message. Raises FirmwareError."""
    return OpenFirmware(
        read_firmware(
            message,
            encoding=profile.patch_encoding,
            payload=profile.payload,
            keys=keys,
            allow_unsigned=profile.allow_unsigned,
            image_magic=profile.image_magic,
            image_check=profile.image_check,
        ),
        PROTOCOLS[profile.protocol],
    )


def _own(kind: ProtocolKind, content: bytes | memoryview) -> tuple[str, str]:
    """Return an image's own name and version, "" where it has none. Raises FirmwareError."""
    version = kind.read_version(content)
    return ("", "") if version is None else (str(kind.name_image(content, b"", version)), version)
