"""The free slot, which receives the image; what the journal records survives (protocol.md, section 6)."""

import hashlib
import zlib

from gatewayd.simulator.flash import Flash
from gatewayd.simulator.journal import FlashJournal

# At most one record per 4 KiB: 2 journal erases per MiB with 4 KiB blocks.
_PROGRESS_FLOOR = 4096
_HASH_SLICE_BYTES = 65536


class Slot:
    """The slot behind the journal. Offsets are the image's; erased edges are multiples of the erase block."""

    def __init__(self, flash: Flash, journal: FlashJournal, *, address: int) -> None:
        self._flash = flash
        self._journal = journal
        self._address = address
        block = flash.erase_block
        self._progress_step = -(-_PROGRESS_FLOOR // block) * block
        self._image: tuple[bytes, int] | None = None  # taken up in this boot
        self._begin(0, 0)

    @property
    def received(self) -> int:
        """The next offset wanted."""
        return self._written + len(self._partial)

    @property
    def durable(self) -> int:
        """How many bytes would survive a power cut now."""
        return self._journal.memory.offset

    def take_up(self, sha256: bytes, size: int, *, from_zero: bool) -> None:
        """Resume this image, or begin it; a new one is in the journal before flash is touched."""
        memory = self._journal.memory
        if not memory.has(sha256, size) or from_zero:
            if not memory.has(sha256, size) or memory.offset:
                self._journal.receiving(sha256, size)
            self._begin(0, 0)
        elif self._image == (sha256, size):
            self._partial.clear()
        else:
            self._begin(memory.offset, memory.crc)
        self._image = (sha256, size)

    def prefix_crc(self) -> int:
        """CRC-32 of what is written; bytes after the last record are read back. Raises FlashReadError."""
        return zlib.crc32(self._read(self._crc_edge, self._written - self._crc_edge), self._crc)

    def erase_next(self) -> None:
        """Erase one more block."""
        self._flash.erase(self._address + self.erased)
        self.erased += self._flash.erase_block

    def edge_for(self, offset: int) -> int:
        """Return how far flash must be erased to write the image up to `offset`."""
        assert self._image is not None  # noqa: S101 - take_up comes first
        block = self._flash.erase_block
        return -(-min(offset, self._image[1]) // block) * block if self._written < self._image[1] else 0

    def append(self, payload: bytes) -> None:
        """Write whole units, and the rest at the image's end. Reads back; raises FlashReadError."""
        assert self._image is not None  # noqa: S101 - take_up comes first
        size = self._image[1]
        unit = self._flash.write_unit
        self._partial += payload
        is_last = self.received == size
        whole = len(self._partial) if is_last else len(self._partial) // unit * unit
        content = bytes(self._partial[:whole])
        del self._partial[:whole]
        self._flash.write(self._address + self._written, content.ljust(-(-whole // unit) * unit, b"\xff"))
        self._written += whole
        while self._written - self._crc_edge >= self._progress_step:
            self._roll_crc(self._crc_edge + self._progress_step)
            self._journal.progress(self._crc_edge, self._crc)
        if is_last:
            self._roll_crc(size)
            self._journal.full(self._crc)

    def forget(self) -> None:
        """Forget the image; the slot no longer holds any part of one."""
        if self._journal.memory.size:
            self._journal.forget()
        self._image = None

    def read(self, offset: int, size: int) -> bytes:
        """Read back. Raises FlashReadError."""
        return self._read(offset, size)

    def _begin(self, offset: int, crc: int) -> None:
        self._written = self.erased = self._crc_edge = offset
        self._crc = crc
        self._partial = bytearray()

    def _roll_crc(self, edge: int) -> None:
        self._crc = zlib.crc32(self._read(self._crc_edge, edge - self._crc_edge), self._crc)
        self._crc_edge = edge

    def _read(self, offset: int, size: int) -> bytes:
        return self._flash.read(self._address + offset, size)


class ReadBack:
    """The whole image in the slot, read back and hashed slice by slice."""

    def __init__(self, slot: Slot, size: int) -> None:
        self._slot = slot
        self._size = size
        self._offset = 0
        self._hash = hashlib.sha256()

    def next_slice(self) -> bytes | None:
        """Hash one more slice; return the SHA-256 after the last. Raises FlashReadError."""
        size = min(_HASH_SLICE_BYTES, self._size - self._offset)
        self._hash.update(self._slot.read(self._offset, size))
        self._offset += size
        return None if self._offset < self._size else self._hash.digest()
