"""The interface between a job and a protocol that carries firmware to a device.

A session has one **operation** under way at a time: `identify`, `transfer`, `arm`, `activate` or `confirm`.
Each is started by a call and ends in exactly one *outcome*: `Identified`, `Staged` or `AlreadyRunning`,
`Armed`, `Activated`, `Confirmed`; or, for any of them, `Deferred` or `Failed`. Before the outcome come
notices (`TransferStarted`, `Progress`, `Console`, `LineSpeed`).

Activation is one step or two. Where `arms_first` is False, `activate` makes the device restart into the
image, and the caller has stored beforehand that it may. Where it is True, `arm` tells the device which image
its next boot is to try; the caller stores that it did, and then lets it restart with `activate`. A device
that went back to its old image may look exactly as it did before it was armed; only what was stored tells the
two apart.

The protocol decides what an answer means for an update: `next_step`, `has_restarted`.

Sans-I/O: the caller hands in bytes and the time (seconds of any monotonic clock), takes out bytes, events and
the next deadline. Starting an operation while one is under way, or out of order, raises `RuntimeError`: that
is a bug of ours, not the peer's fault.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from gatewayd.errors import GatewaydError
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.steps import BootId, Step, Update

# A device may claim a boot time of 18 hours. Nothing on a serial line takes longer than this.
LONGEST_BOOT_S = 300


class ImageState(IntEnum):
    """What became of the image the device tried last. The numbers are stored."""

    CONFIRMED = 0
    ON_TRIAL = 1
    REVERTED = 2


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device reports about itself, in any protocol. Unknown facts are None.

    Attributes:
        boot_id: the token of this boot, compared for equality only.
        running: the image it runs.
        tried: the image it tried last, if it keeps that.
        slot_address, slot_size: of its free slot; bytes.
        can_revert: whether it goes back by itself if new firmware fails; None: it does not say.
        boot_limit_s: how long to wait for its restart.
        bootloader: how its bootloader starts a new image, for people.
    """

    app_id: str | None
    image_state: ImageState = ImageState.CONFIRMED
    boot_id: BootId | None = None
    hardware_id: str | None = None
    device_id: str | None = None
    version: str | None = None
    running: ImageId | None = None
    tried: ImageId | None = None
    slot_address: int | None = None
    slot_size: int | None = None
    can_revert: bool | None = False
    boot_limit_s: int = LONGEST_BOOT_S
    bootloader: str | None = None

    def runs(self, images: Collection[ImageId], version: str) -> bool:
        """Whether the device runs an image with one of these ids, or this version.

        The version counts only if no id can be compared with the one it reports.
        """
        running = self.running
        if running is not None and any(one.algorithm == running.algorithm for one in images):
            return running in images
        return self.version == version


@dataclass(frozen=True, slots=True)
class Image:
    """What is transferred.

    Attributes:
        sha256: of the content.
        second_try: allows one more try of an image tried once (protocol.md, 8).
        own_id: the device's own id for the image, if that is not its SHA-256.
    """

    content: bytes | memoryview
    sha256: bytes
    version: str
    second_try: bool = False
    own_id: ImageId | None = None

    @property
    def id(self) -> ImageId:
        """The device's id for it."""
        return self.own_id or ImageId.of_file(self.sha256)


@dataclass(frozen=True, slots=True)
class Identified:
    """Outcome of `identify`."""

    info: DeviceInfo


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """The device accepted the offer and wants bytes from `offset`; repeated at each resume.

    `is_durable`: whether those before it survive a power cut.
    """

    offset: int
    size: int
    is_durable: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """The device has `received` bytes; `durable` of them survive a power cut."""

    received: int
    durable: int
    size: int


@dataclass(frozen=True, slots=True)
class Staged:
    """Outcome of `transfer`: the device holds the image, verified as far as its protocol can.

    `info` is from the boot that `activate` will end.
    """

    info: DeviceInfo


@dataclass(frozen=True, slots=True)
class AlreadyRunning:
    """Outcome of `transfer`: the offered image is the running one."""


@dataclass(frozen=True, slots=True)
class Armed:
    """Outcome of `arm`: the device's next boot will try the image. To be stored before `activate`."""


@dataclass(frozen=True, slots=True)
class Activated:
    """Outcome of `activate`: the device restarts. `acknowledged` is False if it never replied: identify it.

    Send nothing for `quiet_s`: the first byte it receives could keep its bootloader from booting.
    """

    acknowledged: bool
    quiet_s: float = 0.0


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


Outcome = Identified | Staged | AlreadyRunning | Armed | Activated | Confirmed | Deferred | Failed
Event = Outcome | TransferStarted | Progress | LineSpeed | Console
OUTCOMES = (Identified, Staged, AlreadyRunning, Armed, Activated, Confirmed, Deferred, Failed)


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
        """Whether the last result of `data_to_send` must be written with response."""

    @property
    def quiet_s(self) -> float:
        """How long to send nothing to a device that was told to restart, by us or by anyone else."""

    def set_max_datagram(self, size_bytes: int) -> None:
        """Set how much one send carries: when a datagram link is opened, and whenever that changes."""

    def identify(self, now: float, patience_s: float) -> None:
        """Identify the device; `Failed` with a code of silence after `patience_s` without an answer."""

    def transfer(self, image: Image, now: float) -> None:
        """Transfer the image into the device's free slot, with resumes, until staged. After `identify`."""

    @property
    def arms_first(self) -> bool:
        """Whether activation takes two steps: `arm`, stored, then `activate`."""

    def arm(self, now: float) -> None:
        """Have the device try the staged image at its next boot. After `Staged`, where `arms_first`."""

    def activate(self, trial_s: int, now: float) -> None:
        """Make the device restart into the staged image; a trial of `trial_s` where the device keeps time.

        After `Staged` and once that is stored. Where `arms_first`, after `Armed` and once that is stored, or
        after `identify` when `next_step` says RESTART.
        """

    def confirm(self, image: Image, now: float) -> None:
        """Confirm the running image, which is on trial. After `identify`."""

    def next_step(self, update: Update) -> Step:
        """Return what comes next in an update, from what the device reported at `identify`."""

    def has_restarted(self, update: Update) -> bool:
        """Whether the device has booted since it was activated. After `identify`."""

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes as the link delivered them, in pieces of any size. Never raises on what a peer sends."""

    def data_to_send(self, now: float) -> bytes:
        """Return the next frame for the link, or nothing. One per call: what is queued cannot be recalled.

        On a datagram link the next packet: a frame or a fragment of one.
        """

    def next_event(self) -> Event | None:
        """Take the oldest event not yet taken."""

    def next_deadline(self) -> float | None:
        """When `handle_timeout` is due, or None."""

    def rest_until(self) -> float:
        """Until when answers may wait because the line has enough to send; the past if they may not.

        Asked when `data_to_send` has nothing more; the answer is the same until bytes arrive or are sent.
        """

    def handle_timeout(self, now: float) -> None:
        """Act on what has fallen due; harmless when nothing has."""
