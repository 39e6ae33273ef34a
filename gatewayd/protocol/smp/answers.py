"""What a server's answers mean: errors in both formats, its buffers, its image slots.

No type is trusted: a field of an unexpected type counts as absent, or the answer as malformed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeGuard

from gatewayd.errors import DeviceError
from gatewayd.protocol.smp.errors import MalformedError
from gatewayd.protocol.smp.frames import Frame, Group

MAX_TEXT = 64  # of a name or a version that is stored and shown
HASH_SIZES = frozenset({32, 48, 64})  # SHA-256, 384, 512
MAX_SLOTS = 32
LEAST_BUFFER, LARGEST_BUFFER = 64, 65_535


class Rc(IntEnum):
    """Errors of every group (version 1) that are acted on."""

    UNKNOWN = 1
    NO_MEMORY = 2
    NOT_SUPPORTED = 8
    CORRUPT = 9
    BUSY = 10


@dataclass(frozen=True, slots=True)
class Refusal:
    """A server's error. `group` is None in version 1, where `rc` is one of every group's."""

    rc: int
    group: int | None = None
    reason: str = ""

    @property
    def is_busy(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.group is None and self.rc == Rc.BUSY

    @property
    def may_pass(self) -> bool:
        """Whether a refused chunk may be accepted a little later."""
        return self.is_busy or (self.group is None and self.rc == Rc.NO_MEMORY)

    @property
    def is_cut_short(self) -> bool:
        """Whether the server got less of the request than its header says."""
        return self.group is None and self.rc == Rc.CORRUPT

    @property
    def is_about_image(self) -> bool:
        """Whether the server considers its content not to be an image."""
        return self.group == Group.IMAGE and self.rc in _NO_IMAGE_RCS

    @property
    def is_unsupported(self) -> bool:
        """Whether the server does not know the request at all."""
        return self.group is None and self.rc == Rc.NOT_SUPPORTED

    def as_error(self, request: str) -> DeviceError:
        """Return it as an error; `request` is what the server refused."""
        code, sentence, hint = _MEANINGS.get(
            (self.group, self.rc), ("refused", "it gives no known reason", "")
        )
        where = f"group {self.group}, rc {self.rc}" if self.group is not None else f"rc {self.rc}"
        reason = f", {self.reason!r}" if self.reason else ""
        return DeviceError(
            f"the device refuses {request}: {sentence} ({where}{reason})", code=code, hint=hint
        )


_FLASH = (
    "flash_failed",
    "it cannot erase, write or read its flash",
    "its flash or its power supply may be bad",
)
_NO_IMAGE = ("image_refused", "it does not consider this an image", "was the image built for this device?")
_UNREADABLE = ("malformed", "it cannot read the request", "report it with the device's firmware version")
_NO_IMAGE_RCS = frozenset({3, 4, 5, 6, 7, 22, 23, 29})
_MEANINGS: dict[tuple[int | None, int], tuple[str, str, str]] = {
    (None, 1): ("refused", "it does not say why", "its console may"),
    (None, 2): ("no_memory", "it has no memory for that", "a larger buffer or heap in its firmware"),
    (None, 3): _UNREADABLE,
    (None, 7): ("malformed", "the request does not fit its buffers", "report it with its firmware version"),
    (None, 8): ("unsupported", "its firmware lacks that", "enable MCUmgr's image and OS management in it"),
    (None, 9): (
        "malformed",
        "it got only a part of the request",
        "over Bluetooth: a larger MTU in its firmware, or CONFIG_MCUMGR_TRANSPORT_BT_REASSEMBLY=y",
    ),
    (None, 10): ("device_busy", "it is busy", ""),
    (None, 11): ("access_denied", "its firmware does not allow that", "look at its MCUmgr hooks"),
    (1, 8): ("not_staged", "it does not hold this image ready", ""),
    (1, 9): (
        "no_free_slot",
        "no slot is free: an image waits for its restart, or runs on trial",
        "restart the device, or confirm what it runs",
    ),
    (1, 14): ("refused", "it has no such image", "smp: {image: N} says which one is updated"),
    (1, 15): ("no_memory", "it has no memory for that", "a larger heap in its firmware"),
    **dict.fromkeys(((1, rc) for rc in (20, 21)), _UNREADABLE),
    **dict.fromkeys(((1, rc) for rc in (2, 10, 11, 12, 13, 16, 17, 18, 19)), _FLASH),
    **dict.fromkeys(((1, rc) for rc in _NO_IMAGE_RCS), _NO_IMAGE),
    (1, 24): ("digest_mismatch", "what arrived has another hash than was announced", "its flash may be bad"),
    (1, 27): (
        "downgrade_refused",
        "it runs a newer version and accepts no older one",
        "a build option of its firmware or bootloader",
    ),
    (1, 30): ("too_large", "the image does not fit its slot", "publish a smaller image"),
    (1, 31): ("too_large", "more bytes came than it was told", ""),
    (1, 32): ("refused", "its firmware does not allow the confirmation", "look at its MCUmgr hooks"),
}


def refusal(frame: Frame) -> Refusal | None:
    """Return the error in an answer, in the format of version 1 or 2; None if there is none."""
    error = frame.payload.get("err")
    if isinstance(error, Mapping):
        rc, group = error.get("rc"), error.get("group")
        if _is_count(rc) and rc and _is_count(group):
            return Refusal(rc, group, _text(frame.payload.get("rsn")) or "")
    rc = frame.payload.get("rc")
    if _is_count(rc) and rc:
        return Refusal(rc, None, _text(frame.payload.get("rsn")) or "")
    return None


@dataclass(frozen=True, slots=True)
class Buffers:
    """What a server can hold: `size` bytes in each of `count` buffers."""

    size: int
    count: int

    @classmethod
    def of(cls, frame: Frame) -> "Buffers | None":
        """Read the answer to PARAMS; None if it does not say."""
        size, count = frame.payload.get("buf_size"), frame.payload.get("buf_count")
        if not (_is_count(size) and size >= LEAST_BUFFER):
            return None
        return cls(min(size, LARGEST_BUFFER), count if _is_count(count) and count else 1)


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of one image as the server lists it."""

    image: int
    slot: int
    version: str
    hash: bytes | None
    is_active: bool
    is_pending: bool
    is_confirmed: bool
    is_permanent: bool
    is_bootable: bool


@dataclass(frozen=True, slots=True)
class Slots:
    """The image state. `has_flags` is False in MCUboot's serial recovery, which reports no states."""

    all: tuple[Slot, ...]
    has_flags: bool

    @classmethod
    def of(cls, frame: Frame, image: int) -> "Slots":
        """Read the slots of one image in the answer to an image state request. Raises MalformedError."""
        images = frame.payload.get("images")
        if not _is_list(images) or len(images) > MAX_SLOTS:
            raise MalformedError("an image state without a list of images")
        entries = [entry for entry in images if isinstance(entry, Mapping)]
        slots = tuple(_slot(entry, image) for entry in entries if entry.get("image", 0) == image)
        return cls(slots, any("active" in entry for entry in entries))

    @property
    def active(self) -> Slot | None:
        """The slot whose image runs."""
        return next((slot for slot in self.all if slot.is_active), None)

    def holding(self, image_hash: bytes) -> Slot | None:
        """Return a slot that holds an image without running it."""
        return next((one for one in self.all if one.hash == image_hash and not one.is_active), None)


def _slot(entry: Mapping[Any, Any], image: int) -> Slot:
    number, value = entry.get("slot"), entry.get("hash")
    if not _is_count(number):
        raise MalformedError("an image slot without a number")
    has_hash = isinstance(value, bytes) and len(value) in HASH_SIZES
    return Slot(
        image=image,
        slot=number,
        version=_text(entry.get("version")) or "",
        hash=value if has_hash else None,
        is_active=entry.get("active") is True,
        is_pending=entry.get("pending") is True,
        is_confirmed=entry.get("confirmed") is True,
        is_permanent=entry.get("permanent") is True,
        is_bootable=entry.get("bootable", True) is True,
    )


def board_name(frame: Frame) -> str | None:
    """Return what the server answers to OS info in format `i`."""
    return _text(frame.payload.get("output"))


def bootloader_mode(frame: Frame) -> int | None:
    """Return MCUboot's mode as a number."""
    mode = frame.payload.get("mode")
    return mode if _is_count(mode) else None


def offset_of(frame: Frame) -> int | None:
    """Return the offset that the server wants next."""
    offset = frame.payload.get("off")
    return offset if _is_count(offset) else None


def slot_size(frame: Frame, image: int) -> int | None:
    """Return the most bytes a new image may have: the size of its second slot, if slot info has it."""
    images = frame.payload.get("images")
    for entry in images if _is_list(images) else ():
        if not isinstance(entry, Mapping) or entry.get("image", 0) != image:
            continue
        largest, slots = entry.get("max_image_size"), entry.get("slots")
        if _is_count(largest) and largest:
            return largest
        sizes = [one.get("size") for one in slots if isinstance(one, Mapping)] if _is_list(slots) else []
        known = [size for size in sizes if _is_count(size) and size]
        return min(known) if known else None
    return None


def is_of(frame: Frame, group: Group, command: int) -> bool:
    """Whether an answer belongs to a command."""
    return frame.is_answer and frame.group == group and frame.command == command


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: Any) -> str | None:
    """Return a name that can be stored and shown; None for everything else."""
    if not isinstance(value, str):
        return None
    text = "".join(char if char.isprintable() else "." for char in value.strip()[:MAX_TEXT])
    return text or None
