"""Applications for the boards: the shipped one, signed again with other versions, hanging, damaged."""

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from suites.bench.smp_server import fetch, verified

CACHE = Path("build/peer")
RELEASE = "zephyr_4.4.0_smp_server_0eae053d_"
MICROBIT_HEX = f"{RELEASE}qemu_cortex_m0_serial.merged.hex"
MICROBIT_BIN = f"{RELEASE}qemu_cortex_m0_serial.signed.bin"
MICROBIT_SIZE = 0x40000
HEADER_SIZE = 0x200
SLOT_SIZE = 106_496
SLOT_0 = 0x8000
_BRANCH_TO_SELF = b"\xfe\xe7"  # Thumb `b .`


@cache
def shipped() -> Path:
    """Return the folder of the prebuilt images; fetched when it is not there. Raises Absent."""
    return fetch(CACHE)


def microbit_flash(version: str = "1.0.0") -> bytes:
    """Return the whole flash of a microbit: MCUboot and the application, confirmed, at a version."""
    content = bytearray(b"\xff" * MICROBIT_SIZE)
    for address, data in _hex_records(verified(shipped(), MICROBIT_HEX).decode()):
        content[address : address + len(data)] = data
    image = application(version)
    content[SLOT_0 : SLOT_0 + SLOT_SIZE] = image.ljust(SLOT_SIZE, b"\xff")
    return bytes(content)


def application(version: str, *, extra: bytes = b"") -> bytes:
    """Return the shipped application signed as another version; `extra` makes another hash of the same."""
    return sign(_payload() + extra, version)


def hanging(version: str) -> bytes:
    """Return one that does nothing from its first instruction on."""
    payload = bytearray(_payload())
    reset = int.from_bytes(payload[4:8], "little") - 1 - SLOT_0 - HEADER_SIZE
    payload[reset : reset + 2] = _BRANCH_TO_SELF
    return sign(bytes(payload), version)


def sign(payload: bytes, version: str) -> bytes:
    """Put MCUboot's header and TLVs around a payload, without a key."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-sign-") as folder:
        plain, signed = Path(folder, "plain"), Path(folder, "signed")
        plain.write_bytes(payload)
        options = ["--header-size", hex(HEADER_SIZE), "--pad-header", "--align", "4"]
        options += ["--slot-size", str(SLOT_SIZE), "--version", version]
        imgtool = Path(sys.executable).with_name("imgtool")
        subprocess.run([str(imgtool), "sign", *options, plain, signed], check=True, stdout=subprocess.DEVNULL)
        return signed.read_bytes()


def _payload() -> bytes:
    content = verified(shipped(), MICROBIT_BIN)
    size = int.from_bytes(content[12:16], "little")
    return content[HEADER_SIZE : HEADER_SIZE + size]


def _hex_records(text: str) -> list[tuple[int, bytes]]:
    """Return address and bytes of each data record of an Intel HEX file."""
    found, base = [], 0
    for line in text.split():
        record = bytes.fromhex(line[1:])
        size, offset, kind = record[0], int.from_bytes(record[1:3], "big"), record[3]
        data = record[4 : 4 + size]
        if kind == 4:  # an extended linear address
            base = int.from_bytes(data, "big") << 16
        elif kind == 0:
            found.append((base + offset, data))
    return found
