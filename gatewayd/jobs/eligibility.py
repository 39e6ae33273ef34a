"""Which device a release is for, and what it makes of one that is genuine: pure predicates.

The rules themselves (versions, rollback, size, slots) are in `ota.rules`. Here they are applied to what a
device last reported, or to what the configuration assumes until the device has reported anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gatewayd.codes import Code
from gatewayd.config import Device, Settings
from gatewayd.errors import GatewaydError
from gatewayd.jobs.model import Decision, DecodeProfile, DeviceRecord, Release, RomFacts, Verdict
from gatewayd.ota.rules import (
    Deliver,
    Payload,
    check_rollback,
    check_size,
    check_version,
    select_rom,
)
from gatewayd.ota.topic import OtaTopic
from gatewayd.ota.version import Line, Version
from gatewayd.protocol.image import check_own_version
from gatewayd.protocol.session import ImageState

_PUSH = "push:"
# In place of a fingerprint: with keys that cannot be used there is no verdict on any message.
_NO_KEYS = "unusable"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A genuine release, as a device decodes it."""

    release: Release
    verdict: Verdict

    @property
    def version(self) -> Version:
        """The version the device would run."""
        return self.release.version(self.verdict)

    @property
    def age(self) -> tuple[int, int]:
        """The order of the releases of one topic: by authenticated timestamp, then by arrival."""
        return self.verdict.timestamp_ms or 0, self.release.seq


def installed_version(device: Device, record: DeviceRecord) -> Version:
    """Return the version the device reported; until then, the one in the configuration."""
    if record.info is None or record.info.version is None:
        return device.version
    try:
        return Version.parse(record.info.version)
    except GatewaydError:
        return device.version


def installed_versions(
    settings: Settings, records: Mapping[str, DeviceRecord]
) -> list[tuple[Device, Version]]:
    """Return what each device runs, as far as it is known."""
    return [
        (device, installed_version(device, records.get(device.name, DeviceRecord(device.name))))
        for device in settings.devices
    ]


def line_of(device: Device, installed: Version) -> Line:
    """Return the line a device follows: the one in the configuration, or else that of what it runs."""
    return device.line or installed.line


def topics_of(settings: Settings, device: Device, record: DeviceRecord) -> frozenset[str]:
    """Return the topics a device follows: those of its line."""
    line = line_of(device, installed_version(device, record))
    return frozenset(
        settings.mqtt.ota_topic.build(OtaTopic(device.app_id, line.major, line.minor, channel))
        for channel in device.channels
    )


def push_topic(name: str) -> str:
    """Return the topic that stands for a manual push to a device; it cannot clash with an MQTT topic."""
    return f"{_PUSH}{name}"


def is_pushed(topic: str) -> bool:
    """Whether a release was pushed manually."""
    return topic.startswith(_PUSH)


def profile_of(settings: Settings, device: Device) -> DecodeProfile:
    """Return how the device decodes messages, including its keys: a corrected key changes the profile."""
    if settings.missing_keys(device):
        fingerprint = _NO_KEYS
    else:
        keys = settings.keys_of(device) if device.payload is Payload.ADVANCED else None
        fingerprint = keys.fingerprint if keys else ""
    return DecodeProfile(
        device.patch_encoding,
        device.payload,
        fingerprint,
        device.allow_unsigned,
        bytes.fromhex(device.image_magic or ""),
        device.image_check,
        device.protocol,
    )


def images_of(device: Device, verdict: Verdict) -> tuple[RomFacts, ...]:
    """Return the images of a release that can be sent to the device."""
    if device.payload is Payload.STANDARD or device.deliver is Deliver.CONTAINER:
        own = verdict.body_own_id, verdict.body_own_version
        return (RomFacts(0, verdict.body_size, verdict.body_sha256, *own),)
    return verdict.roms


def check_own_versions(device: Device, verdict: Verdict, version: Version) -> None:
    """Raise FirmwareError when an image says that it is another version than was published."""
    for image in images_of(device, verdict):
        if image.own_version:
            check_own_version(image.own_version, str(version))


def refusal_of(device: Device, record: DeviceRecord, candidate: Candidate) -> Decision | None:
    """Return why a device does not take a genuine release; None if it does."""
    installed = installed_version(device, record)
    try:
        check_own_versions(device, candidate.verdict, candidate.version)
    except GatewaydError as error:
        return decision_on(device, candidate, error.code, str(error), refused=True)
    runs = _runs(device, record, candidate)
    on_trial = runs and record.info is not None and record.info.image_state is ImageState.ON_TRIAL
    if not on_trial and (runs or candidate.version == installed):
        named = f"{candidate.version}" if candidate.version == installed else f"this image, as {installed}"
        return decision_on(device, candidate, "up_to_date", f"it runs {named}")
    try:
        if not on_trial:
            is_ordered = candidate.release.from_line == str(installed.line)
            line = candidate.version.line if is_ordered else line_of(device, installed)
            check_version(installed, candidate.version, line=line, allow_downgrade=device.allow_downgrade)
        check_rollback(
            record.mark,
            candidate.verdict.timestamp_ms,
            bytes.fromhex(candidate.verdict.container_sha256),
            allow_downgrade=device.allow_downgrade,
        )
        # On trial: the job finds it running, and confirms it.
        return None if on_trial else _unfit(device, record, candidate)
    except GatewaydError as error:
        return decision_on(device, candidate, error.code, str(error), refused=error.code != Code.NOT_NEWER)


def _unfit(device: Device, record: DeviceRecord, candidate: Candidate) -> Decision | None:
    """Return why it does not fit the device's free slot; None if it fits or the slot is unknown."""
    info = record.info
    if info is None:
        return None
    images = images_of(device, candidate.verdict)
    by_slot = device.payload is Payload.ADVANCED and device.deliver is Deliver.ROM
    image = select_rom(images, info.slot_address, device.slot_match) if by_slot else images[0]
    check_size(image.size, info.slot_size)
    if info.image_state is ImageState.REVERTED and info.tried == image.id:
        reason = f"{candidate.version} was tried and the bootloader went back to the old image"
        return decision_on(device, candidate, "reverted", reason, refused=True)
    return None


def _runs(device: Device, record: DeviceRecord, candidate: Candidate) -> bool:
    """Whether the device runs any image of the release. A second ROM is for the other slot."""
    info = record.info
    return info is not None and any(
        info.runs((image.id,), str(candidate.version)) for image in images_of(device, candidate.verdict)
    )


def decision_on(
    device: Device, candidate: Candidate, code: str, reason: str, *, refused: bool = False
) -> Decision:
    """Return a decision about a device and the release that caused it."""
    return Decision(device.name, code, reason, refused, candidate.release.id, str(candidate.version))
