"""The interface between a job and a protocol that carries firmware to a device.

A session has one **operation** under way at a time: `identify`, `transfer`, `activate`, `confirm`. Each is
started by a call and ends in exactly one *outcome*: `Identified`, `Staged` or `AlreadyRunning`, `Activated`,
`Confirmed`; or, for any of them, `Deferred` or `Failed`. Before the outcome come notices (`TransferStarted`,
`Progress`, `Console`, `LineSpeed`).

Sans-I/O: the caller hands in bytes and the time (seconds of any monotonic clock), takes out bytes, events and
the next deadline. Starting an operation while one is under way, or one out of order, raises `RuntimeError`:
that is our mistake, not the peer's.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from gatewayd.errors import GatewaydError

# A device may say that it boots for 18 hours. Nothing on a serial line boots for longer than this.
LONGEST_BOOT_S = 300


class ImageState(IntEnum):
    """What became of the image the device tried last; the numbers are the protocol's."""

    CONFIRMED = 0
    ON_TRIAL = 1
    REVERTED = 2


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device says of itself. Sizes in bytes; absent facts are None."""

    app_id: str
    boot_id: int
    image_state: ImageState
    max_frame: int
    window: int
    rx_ring: int
    slot_size: int
    erase_block: int
    write_unit: int
    boot_time_s: int
    can_set_baud: bool
    can_revert: bool
    hardware_id: str | None = None
    device_id: str | None = None
    version: str | None = None
    slot_address: int | None = None
    running_sha256: bytes | None = None
    tried_sha256: bytes | None = None
    tried_count: int = 0
    can_short_data: bool = False

    @property
    def boot_limit_s(self) -> int:
        """How long its restart is waited for."""
        return min(self.boot_time_s, LONGEST_BOOT_S)

    def runs(self, sha256: bytes, version: str) -> bool:
        """Whether the device runs this image: by SHA-256, or by version when it knows no SHA-256."""
        if self.running_sha256 is not None:
            return self.running_sha256 == sha256
        return self.version == version


@dataclass(frozen=True, slots=True)
class Image:
    """What is transferred. `second_try` allows one more try of an image tried once (protocol.md, 8)."""

    content: bytes | memoryview
    sha256: bytes
    version: str
    second_try: bool = False


@dataclass(frozen=True, slots=True)
class Identified:
    """Outcome of `identify`."""

    info: DeviceInfo


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """The device accepted the offer and wants bytes from `offset`; comes again at each resume."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The device has `received` bytes; `durable` of them survive a power cut."""

    received: int
    durable: int
    size: int


@dataclass(frozen=True, slots=True)
class Staged:
    """Outcome of `transfer`: the device holds the image, verified; `info` has the boot id for ACTIVATE."""

    info: DeviceInfo


@dataclass(frozen=True, slots=True)
class AlreadyRunning:
    """Outcome of `transfer`: the offered image is the running one."""


@dataclass(frozen=True, slots=True)
class Activated:
    """Outcome of `activate`: the device restarts. Was it silent, `acknowledged` is False; identify tells."""

    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Outcome of `confirm`."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Outcome of any operation: the device asks to be left alone for `seconds`."""

    seconds: int
    reason: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Outcome of any operation. `error.code` is stable; a DeviceError or LinkError."""

    error: GatewaydError


@dataclass(frozen=True, slots=True)
class LineSpeed:
    """Set the line to `baud` once everything sent so far has left it, before sending or receiving more."""

    baud: int


@dataclass(frozen=True, slots=True)
class Console:
    """Text between frames: the device's console, one line, sanitised, at most 200 characters."""

    text: str


Outcome = Identified | Staged | AlreadyRunning | Activated | Confirmed | Deferred | Failed
Event = Outcome | TransferStarted | Progress | LineSpeed | Console
OUTCOMES = (Identified, Staged, AlreadyRunning, Activated, Confirmed, Deferred, Failed)


@dataclass(slots=True)
class Traffic:
    """Counts since the session began; bytes on the wire unless the name says otherwise."""

    bytes_sent: int = 0
    bytes_received: int = 0
    image_bytes_sent: int = 0
    image_bytes_repeated: int = 0
    broken_frames: int = 0
    probes: int = 0
    resumes: int = 0


class TransferSession(Protocol):
    """One device on one open link. See the module's text for the order of calls."""

    traffic: Traffic

    @property
    def needs_response(self) -> bool:
        """Whether what `data_to_send` returned last goes to the device by write with response."""

    def set_max_datagram(self, size_bytes: int) -> None:
        """How much one send carries; each time a datagram link has been opened, before any operation."""

    def identify(self, now: float, patience_s: float) -> None:
        """Ask who is there; `Failed` with a code that is a silence after `patience_s` without an answer."""

    def transfer(self, image: Image, now: float) -> None:
        """Bring the image into the device's free slot, resuming, until it is staged. After `identify`."""

    def activate(self, trial_s: int, now: float) -> None:
        """Make the device restart into the staged image. After `Staged`, and once that is stored."""

    def confirm(self, image: Image, now: float) -> None:
        """Confirm the running image, which is on trial. After `identify`."""

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes as the link delivered them, in pieces of any size. Never raises on what a peer sends."""

    def data_to_send(self, now: float) -> bytes:
        """Return the next frame for the link, or nothing. One a call: what is queued cannot be taken back.

        On a datagram link the next packet: a frame or a fragment of one.
        """

    def next_event(self) -> Event | None:
        """Take the oldest event not yet taken."""

    def next_deadline(self) -> float | None:
        """When `handle_timeout` is due, or None."""

    def handle_timeout(self, now: float) -> None:
        """Act on what has fallen due; harmless when nothing has."""
