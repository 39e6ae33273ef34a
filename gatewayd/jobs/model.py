"""What the gateway knows: releases, how they read, devices, jobs; and how a job may move.

    offered -> queued -> transferring -> staged -> activating -> succeeded

`offered` waits for a person. `failed`, `superseded`, `cancelled` and `succeeded` are ends. A job goes back to
`queued` when an attempt ended without success and there may be another. Everything here is a frozen value;
time is text (UTC, ISO 8601) for people, and order is told by `seq`, a counter of the store: a Pi has no clock
that can be trusted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from gatewayd.ota.patch import PatchEncoding
from gatewayd.ota.rules import Payload, RollbackMark
from gatewayd.ota.topic import Channel
from gatewayd.ota.version import Version
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.session import DeviceInfo
from gatewayd.protocol.steps import BootId, Update


class JobState(StrEnum):
    """Each member says what is true now."""

    OFFERED = "offered"
    QUEUED = "queued"
    TRANSFERRING = "transferring"
    STAGED = "staged"
    ACTIVATING = "activating"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


_S = JobState
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    _S.OFFERED: frozenset({_S.QUEUED, _S.SUPERSEDED, _S.CANCELLED}),
    _S.QUEUED: frozenset({_S.TRANSFERRING, _S.SUCCEEDED, _S.FAILED, _S.SUPERSEDED, _S.CANCELLED}),
    _S.TRANSFERRING: frozenset({_S.STAGED, _S.SUCCEEDED, _S.QUEUED, _S.FAILED, _S.CANCELLED}),
    _S.STAGED: frozenset({_S.ACTIVATING, _S.QUEUED, _S.FAILED, _S.CANCELLED}),
    # Not cancelled: from here on the device may already be running the new image. Transferring again: it says
    # that ACTIVATE had no effect.
    _S.ACTIVATING: frozenset({_S.TRANSFERRING, _S.SUCCEEDED, _S.QUEUED, _S.FAILED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.SUPERSEDED: frozenset(),
    _S.CANCELLED: frozenset(),
}
ENDED = frozenset(state for state, following in TRANSITIONS.items() if not following)
WAITING = frozenset({_S.OFFERED, _S.QUEUED})
# What a stop of gatewayd, or a failure to write down how an attempt ended, leaves behind.
INTERRUPTIBLE = frozenset({_S.TRANSFERRING, _S.STAGED})


class IllegalTransitionError(RuntimeError):
    """A job was asked to move where the table does not lead: our mistake. Nothing was changed."""


def check_transition(old: JobState, new: JobState) -> None:
    """Raise IllegalTransitionError unless the table leads from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransitionError(f"a job cannot go from {old} to {new}")


@dataclass(frozen=True, slots=True)
class DecodeProfile:
    """How a device reads a message: two devices that share it share the verdict."""

    patch_encoding: PatchEncoding
    payload: Payload
    key_fingerprint: str  # "" without keys
    allow_unsigned: bool
    image_magic: bytes = b""  # these two are about the standard payload
    image_check: bool = True

    @property
    def key(self) -> str:
        """The text under which a verdict is stored."""
        unsigned = "unsigned" if self.allow_unsigned else "signed"
        key = f"{self.patch_encoding}/{self.payload}/{self.key_fingerprint or '-'}/{unsigned}"
        if self.payload is not Payload.STANDARD:
            return key
        return f"{key}/{self.image_magic.hex() or '-'}" if self.image_check else f"{key}/unchecked"


@dataclass(frozen=True, slots=True)
class RomFacts:
    """One ROM of a release without its bytes."""

    address: int
    size: int
    sha256: str

    @property
    def id(self) -> ImageId:
        """The ROM by the SHA-256 of its file."""
        return ImageId.of_file(bytes.fromhex(self.sha256))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification made of a message in one reading: facts, or a refusal (`code` not empty).

    The body is what follows the patch header, as published; `container_sha256` is that of the container's
    plain form ("" for a standard payload), `timestamp_ms` its build timestamp where a key vouches for it.
    """

    code: str = ""
    reason: str = ""
    patch: int = 0
    body_sha256: str = ""
    body_size: int = 0
    container_sha256: str = ""
    timestamp_ms: int | None = None
    roms: tuple[RomFacts, ...] = ()

    @property
    def is_genuine(self) -> bool:
        """Whether the message may go to a device at all."""
        return not self.code


@dataclass(frozen=True, slots=True)
class Release:
    """A message in the spool. `seq` orders by arrival."""

    id: int
    seq: int
    topic: str
    app_id: str
    major: int
    minor: int
    channel: Channel
    sha256: str
    size: int
    received_at: str

    def version(self, verdict: Verdict) -> Version:
        """The version this release is, with the patch that `verdict` read."""
        return Version(self.major, self.minor, verdict.patch)


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """What a device last said, and when (`contact_seq`, 0: never)."""

    name: str
    info: DeviceInfo | None = None
    contact_seq: int = 0
    contact_at: str = ""
    mark: RollbackMark | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One update of one device to one release."""

    id: int
    device: str
    release_id: int
    message_sha256: str
    from_version: str
    version: str
    state: JobState
    created_at: str
    updated_at: str
    created_seq: int
    updated_seq: int
    attempt: int = 0
    failures: int = 0  # attempts in a row that brought nothing durable
    code: str = ""
    reason: str = ""
    image_sha256: str = ""
    image_size: int = 0
    timestamp_ms: int | None = None
    container_sha256: str = ""
    activated_at: str = ""
    boot_id: BootId | None = None  # of the device when it was last offered the image, or activated
    device_id: str | None = None
    second_try: bool = False
    durable: int = 0  # the furthest the device ever got
    resumes: int = 0
    topic: str = ""  # where its release came from
    decision: str = ""  # what the planner said when it made the job
    retry_allowed: bool = False  # a person lets the same release be tried once more
    image_id: str = ""  # the device's own name for the image, where that is not its SHA-256
    peer: str | None = None  # the address of the device that it began with, where the link tells one
    is_armed: bool = False  # the device has acknowledged that its next boot is one into the image

    @property
    def is_active(self) -> bool:
        """Whether something is still to be done."""
        return self.state not in ENDED

    @property
    def image(self) -> ImageId | None:
        """What the device was offered, by its own name; None until it was offered anything."""
        if self.image_id:
            return ImageId.parse(self.image_id)
        return ImageId.of_file(bytes.fromhex(self.image_sha256)) if self.image_sha256 else None

    @property
    def update(self) -> Update:
        """What the protocol compares a device's answer with."""
        return Update(
            image=self.image,
            version=self.version,
            from_version=self.from_version,
            boot_id=self.boot_id,
            is_activating=self.state is JobState.ACTIVATING,
            is_armed=self.is_armed,
        )


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """What became of one opening of the link for a job. Without `ended_at` it is under way.

    Attempts in a row that moved nothing and ended alike are one record: `times` counts them, `duration_s` is
    their sum. Bytes are those of the image; `offset` is where the device wanted to go on first.
    """

    started_at: str
    number: int = 0
    ended_at: str = ""
    duration_s: float = 0.0
    times: int = 1
    offset: int | None = None
    received: int = 0
    bytes_sent: int = 0
    bytes_repeated: int = 0
    resumes: int = 0
    code: str = ""
    reason: str = ""

    def continues(self, last: "AttemptRecord") -> bool:
        """Whether this is the same in vain as `last`."""
        in_vain = self.offset is None and last.offset is None
        return in_vain and bool(self.code) and self.code == last.code

    def after(self, last: "AttemptRecord | None") -> Self:
        """Return it with its number: that of `last` when it was that one's end, or the same in vain."""
        if last is None:
            return replace(self, number=1)
        if not last.ended_at:
            return replace(self, number=last.number)
        if not self.continues(last):
            return replace(self, number=last.number + 1)
        return replace(
            self,
            number=last.number,
            started_at=last.started_at,
            times=last.times + 1,
            duration_s=last.duration_s + self.duration_s,
        )


@dataclass(frozen=True, slots=True)
class Pause:
    """A person keeps a device, or all (`EVERYTHING`), from being talked to."""

    since: str
    by: str


# In the place of a device's name, which cannot be that.
EVERYTHING = "*"


def pause_of(pauses: Mapping[str, Pause], name: str) -> tuple[Pause, str] | None:
    """Return the pause that keeps a device, and the command that ends it."""
    if name in pauses:
        return pauses[name], f"gatewayctl resume {name}"
    return (pauses[EVERYTHING], "gatewayctl resume") if EVERYTHING in pauses else None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the planner says about one device now, and why."""

    device: str
    code: str  # "update", "up_to_date", "no_release", "verifying", or a refusal's code
    reason: str
    refused: bool = False
    release_id: int | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Make a job; `offered` when a person has to approve."""

    device: str
    release_id: int
    message_sha256: str
    from_version: str
    version: str
    state: JobState
    timestamp_ms: int | None
    container_sha256: str
    topic: str = ""
    decision: str = ""


@dataclass(frozen=True, slots=True)
class EndJob:
    """End an active job: superseded or cancelled."""

    job_id: int
    state: JobState
    code: str
    reason: str


Command = CreateJob | EndJob


@dataclass(frozen=True, slots=True)
class BoardKey:
    """What a board's anti-rollback mark is stored under (see marks.py). `kind` is "id" or "link"."""

    app_id: str
    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class SaveMark:
    """Raise what is stored for a board, and for its entry, to `mark`; `reason` is for the log."""

    device: str
    keys: tuple[BoardKey, ...]
    mark: RollbackMark
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The planner's answer for all devices. `to_verify`: readings that no verdict exists for yet."""

    decisions: tuple[Decision, ...] = ()
    commands: tuple[Command, ...] = ()
    to_verify: tuple[tuple[Release, DecodeProfile, str], ...] = field(default=())  # with the key set's name
    topics: frozenset[str] = frozenset()
    marks: tuple[SaveMark, ...] = ()
