"""A model of NOR flash: erased in blocks, written once per unit, torn if power fails during an operation."""

import random
from typing import Protocol

BLANK = 0xFF


class PowerCut(Exception):  # noqa: N818 - an event, not an error
    """The power failed during a flash operation."""


class FlashReadError(Exception):
    """A unit cannot be read, such as a word with a torn ECC."""


class FlashMisuse(Exception):  # noqa: N818 - the field's word
    """Something no NOR flash can do, such as writing cells that are not blank, or unaligned."""


class Storage(Protocol):
    """The memory behind the cells: a bytearray, or an mmap of a file."""

    def __len__(self) -> int:
        """Size in bytes."""

    def __getitem__(self, key: slice, /) -> bytes | bytearray:
        """Bytes of a range."""

    def __setitem__(self, key: slice, value: bytes, /) -> None:
        """Replace the bytes of a range."""


class Flash:
    """Erase blocks and write units over `storage` (blank memory of `size_bytes` by default).

    `operations` counts erases and unit writes. When it reaches `cut_at` the operation under way is torn and
    PowerCut raised, once. With `torn_unreadable`, units torn by a cut cannot be read until they are erased.
    """

    def __init__(
        self,
        size_bytes: int,
        *,
        erase_block: int,
        write_unit: int,
        storage: Storage | None = None,
        torn_unreadable: bool = False,
        seed: int = 0,
    ) -> None:
        if size_bytes % erase_block or erase_block % write_unit:
            raise ValueError(
                f"{size_bytes} bytes, blocks of {erase_block}, units of {write_unit} do not divide"
            )
        self.size_bytes = size_bytes
        self.erase_block = erase_block
        self.write_unit = write_unit
        self.operations = 0
        self.cut_at: int | None = None
        self.erases: dict[int, int] = {}  # block number -> how often
        self.unreadable: set[int] = set()  # addresses of units
        self._torn_unreadable = torn_unreadable
        self._cells: Storage = bytearray([BLANK]) * size_bytes if storage is None else storage
        self._random = random.Random(seed)  # noqa: S311 - torn cells, not keys

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes; FlashReadError if one of their units is torn."""
        self._check_range(address, size)
        if self.unreadable and any(
            address - self.write_unit < unit < address + size for unit in self.unreadable
        ):
            raise FlashReadError(f"unreadable unit within {address:#x}..{address + size:#x}")
        return bytes(self._cells[address : address + size])

    def is_blank(self, address: int, size: int) -> bool:
        """Whether a range reads as erased."""
        try:
            return self.read(address, size).count(BLANK) == size
        except FlashReadError:
            return False

    def write(self, address: int, content: bytes) -> None:
        """Program whole units, all of which must be blank. Each unit is one operation."""
        unit = self.write_unit
        self._check_range(address, len(content))
        if address % unit or len(content) % unit:
            raise FlashMisuse(f"write of {len(content)} bytes at {address:#x} is not in units of {unit}")
        if not self.is_blank(address, len(content)):
            raise FlashMisuse(f"write at {address:#x} over cells that are not blank")
        if self._cut_within(len(content) // unit):
            whole = (self.cut_at_left() - 1) * unit
            self._cells[address : address + whole] = content[:whole]
            self._tear_unit(address + whole, content[whole : whole + unit])
            self._cut()
        self.operations += len(content) // unit
        self._cells[address : address + len(content)] = content

    def erase(self, address: int) -> None:
        """Erase the block that begins at `address`. One operation."""
        size = self.erase_block
        self._check_range(address, size)
        if address % size:
            raise FlashMisuse(f"erase at {address:#x} is not at the start of a block of {size}")
        self.erases[address // size] = self.erases.get(address // size, 0) + 1
        if self._cut_within(1):
            half = self._random.randrange(size)
            self._cells[address : address + half] = bytes([BLANK]) * half
            self._cut()
        self.operations += 1
        self._cells[address : address + size] = bytes([BLANK]) * size
        self.unreadable = {unit for unit in self.unreadable if not address <= unit < address + size}

    def step(self) -> None:
        """Count an operation that is itself atomic (a boot flag): a cut comes before it."""
        if self._cut_within(1):
            self._cut()
        self.operations += 1

    def cut_at_left(self) -> int:
        """How many operations are left until the cut; 0 when none is planned."""
        return 0 if self.cut_at is None else self.cut_at - self.operations

    def _cut_within(self, operations: int) -> bool:
        return 0 < self.cut_at_left() <= operations

    def _cut(self) -> None:
        assert self.cut_at is not None  # noqa: S101 - _cut_within has checked it
        self.operations, self.cut_at = self.cut_at, None
        raise PowerCut(f"power cut at flash operation {self.operations}")

    def _tear_unit(self, address: int, content: bytes) -> None:
        """Clear some of the bits that should have been cleared."""
        mask = self._random.randbytes(len(content))
        self._cells[address : address + len(content)] = bytes(
            c | m for c, m in zip(content, mask, strict=True)
        )
        if self._torn_unreadable:
            self.unreadable.add(address)

    def _check_range(self, address: int, size: int) -> None:
        if address < 0 or size < 0 or size > self.size_bytes - address:
            raise FlashMisuse(f"{size} bytes at {address:#x} are outside {self.size_bytes:#x}")
