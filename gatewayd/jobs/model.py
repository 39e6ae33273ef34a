"""The gateway's shared values: releases, verdicts, devices, jobs; and the transitions of a job.

    offered -> queued -> transferring -> staged -> activating -> succeeded

`offered` waits for a person. `failed`, `superseded`, `cancelled` and `succeeded` are final. A job returns to
`queued` when an attempt ends without success and another may follow. Everything here is a frozen value. Times
are text (UTC, ISO 8601) for people; `seq`, a counter in the store, gives the order, because a Pi's clock
cannot be trusted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from gatewayd.jobs.transitions import ENDED, JobState
from gatewayd.ota.patch import PatchEncoding
from gatewayd.ota.rules import Payload, RollbackMark
from gatewayd.ota.topic import Channel
from gatewayd.ota.version import Version
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.registry import DEFAULT_PROTOCOL
from gatewayd.protocol.session import DeviceInfo
from gatewayd.protocol.steps import BootId, Update


@dataclass(frozen=True, slots=True)
class DecodeProfile:
    """How a device decodes a message; devices with equal profiles share the verdict."""

    patch_encoding: PatchEncoding
    payload: Payload
    key_fingerprint: str  # "" without keys
    allow_unsigned: bool
    image_magic: bytes = b""  # these two are about the standard payload
    image_check: bool = True
    protocol: str = DEFAULT_PROTOCOL  # says what an image is

    @property
    def key(self) -> str:
        """The text under which a verdict is stored. Of the default protocol it is as it always was."""
        unsigned = "unsigned" if self.allow_unsigned else "signed"
        protocol = "" if self.protocol == DEFAULT_PROTOCOL else f"/{self.protocol}"
        key = f"{self.patch_encoding}/{self.payload}/{self.key_fingerprint or '-'}/{unsigned}{protocol}"
        if self.payload is not Payload.STANDARD:
            return key
        return f"{key}/{self.image_magic.hex() or '-'}" if self.image_check else f"{key}/unchecked"


@dataclass(frozen=True, slots=True)
class RomFacts:
    """One ROM of a release without its bytes.

    `own_id` is the device's own name for it, `own_version` what it says of itself; "" where it has none.
    """

    address: int
    size: int
    sha256: str
    own_id: str = ""
    own_version: str = ""

    @property
    def id(self) -> ImageId:
        """What a device calls the ROM; by itself, the SHA-256 of its file."""
        return ImageId.parse(self.own_id) if self.own_id else ImageId.of_file(bytes.fromhex(self.sha256))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of verifying a message with one profile: facts, or a refusal (`code` is not empty).

    The body is what follows the patch header, as published; `container_sha256` is that of the container's
    plain form ("" for a standard payload), `timestamp_ms` its build timestamp where a key vouches for it.
    `body_own_id` and `body_own_version` are a standard payload's, as RomFacts has them.
    """

    code: str = ""
    reason: str = ""
    patch: int = 0
    body_sha256: str = ""
    body_size: int = 0
    container_sha256: str = ""
    timestamp_ms: int | None = None
    roms: tuple[RomFacts, ...] = ()
    body_own_id: str = ""
    body_own_version: str = ""

    @property
    def is_genuine(self) -> bool:
        """Whether the message may go to a device at all."""
        return not self.code


@dataclass(frozen=True, slots=True)
class Release:
    """A message in the spool. `seq` orders by arrival.

    `retained`: the broker is known to have retained it. `suspended_at`: it does not have it any more.
    `from_line`: a person ordered the step to it from that line; empty: nobody did.
    """

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
    retained: bool = False
    suspended_at: str = ""
    from_line: str = ""

    def version(self, verdict: Verdict) -> Version:
        """Return this release's version, with the patch number from `verdict`."""
        return Version(self.major, self.minor, verdict.patch)


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """What a device last reported, and when (`contact_seq`; 0: never)."""

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
    failures: int = 0  # consecutive attempts without a new durable byte
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
    durable: int = 0  # most bytes the device ever had, in durable memory
    resumes: int = 0
    topic: str = ""  # the topic of its release
    decision: str = ""  # the planner's reason when it created the job
    retry_allowed: bool = False  # a person has allowed the same release to be tried again
    image_id: str = ""  # the device's own name for the image, if that is not its SHA-256
    peer: str | None = None  # address of the device that the job began with, if the link has one
    retry_reverted: bool = False  # a person has ordered one more try of an image that was given up
    is_armed: bool = False  # the device has acknowledged that it will boot the image next

    @property
    def is_active(self) -> bool:
        """Whether the job has not ended."""
        return self.state not in ENDED

    @property
    def image(self) -> ImageId | None:
        """The image that the device was offered, by the device's own name; None before the first offer."""
        if self.image_id:
            return ImageId.parse(self.image_id)
        return ImageId.of_file(bytes.fromhex(self.image_sha256)) if self.image_sha256 else None

    @property
    def update(self) -> Update:
        """The facts that the protocol compares a device's answer with."""
        return Update(
            image=self.image,
            version=self.version,
            from_version=self.from_version,
            boot_id=self.boot_id,
            is_activating=self.state is JobState.ACTIVATING,
            is_armed=self.is_armed,
            retry_reverted=self.retry_reverted,
        )


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt at a job, from opening the link to the outcome. Without `ended_at` it is under way.

    Consecutive attempts that transferred nothing and ended with the same code share a record: `times` counts
    them, `duration_s` is their sum. Bytes count the image only; `offset` is where the device first resumed.
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
        """Whether this attempt failed without a transfer, with the same code as `last`."""
        no_transfer = self.offset is None and last.offset is None
        return no_transfer and bool(self.code) and self.code == last.code

    def after(self, last: "AttemptRecord | None") -> Self:
        """Return it numbered: as `last` if it completes or repeats that record, else one higher."""
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
    """A person has paused a device, or all (`EVERYTHING`)."""

    since: str
    by: str


# Used in place of a device's name; not a valid name.
EVERYTHING = "*"


def pause_of(pauses: Mapping[str, Pause], name: str) -> tuple[Pause, str] | None:
    """Return the pause that applies to a device, and the command that ends it."""
    if name in pauses:
        return pauses[name], f"gatewayctl resume {name}"
    return (pauses[EVERYTHING], "gatewayctl resume") if EVERYTHING in pauses else None


@dataclass(frozen=True, slots=True)
class Decision:
    """The planner's decision about one device, and the reason."""

    device: str
    code: str  # "update", "up_to_date", "no_release", "verifying", or a refusal's code
    reason: str
    refused: bool = False
    release_id: int | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create a job; in state `offered` if a person must approve it."""

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
    retry_reverted: bool = False


@dataclass(frozen=True, slots=True)
class EndJob:
    """End an active job: superseded or cancelled."""

    job_id: int
    state: JobState
    code: str
    reason: str


JobChange = CreateJob | EndJob


@dataclass(frozen=True, slots=True)
class BoardKey:
    """What a board's anti-rollback mark is stored under (see rollback_marks.py). `kind` is "id" or "link"."""

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
    """The planner's result for all devices. `to_verify`: releases and profiles without a verdict so far."""

    decisions: tuple[Decision, ...] = ()
    job_changes: tuple[JobChange, ...] = ()
    to_verify: tuple[tuple[Release, DecodeProfile, str], ...] = field(default=())  # with the key set's name
    topics: frozenset[str] = frozenset()
    marks: tuple[SaveMark, ...] = ()
    held: frozenset[int] = frozenset()  # jobs that were not begun, and wait for the broker's word
