"""What would happen: the planner's own answers, before anything is stored.

A message that is not published is added to the snapshot and verified as it would be, and the planner runs as
usual. Nothing is written or started.
"""

import hashlib
from dataclasses import dataclass, replace

from gatewayd.config import Device, Settings
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.eligibility import Candidate, profile_of, refusal_of, topics_of
from gatewayd.jobs.model import CreateJob, Decision, DeviceRecord, EndJob, Release, Verdict
from gatewayd.ota.topic import OtaTopic
from gatewayd.planning.planner import StoreSnapshot, plan, records_of, releases_for


@dataclass(frozen=True, slots=True)
class Forecast:
    """The planner's answer for one device, and the topics it follows; `follows`: the message's is one."""

    device: str
    topics: frozenset[str]
    follows: bool
    decision: Decision
    creates: CreateJob | None = None
    ends: EndJob | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """One release assessed for one device, regardless of other releases."""

    release: Release
    version: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Suspension:
    """A release that the broker no longer has, and the devices that follow its topic."""

    release: Release
    version: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """The snapshot with one more message, and the release which that message is."""

    known: StoreSnapshot
    release: Release | None

    @property
    def own_versions(self) -> tuple[str, ...]:
        """What the message's images say that they are, as far as a device that follows the topic reads it."""
        if self.release is None:
            return ()
        read = [one for (sha256, _), one in self.known.verdicts.items() if sha256 == self.release.sha256]
        told = {one.body_own_version for one in read} | {rom.own_version for one in read for rom in one.roms}
        return tuple(sorted(told - {""}))


async def with_message(
    settings: Settings,
    known: StoreSnapshot,
    firmware: FirmwareReader,
    *,
    topic: OtaTopic,
    topic_text: str,
    message: bytes,
    from_line: str = "",
) -> Preview:
    """Add a message to the snapshot; an empty one withdraws its topic's releases.

    `from_line`: as of a `Release`.
    """
    others = [release for release in known.releases if release.topic != topic_text]
    if not message:
        return Preview(replace(known, releases=others), None)
    sha256 = hashlib.sha256(message).hexdigest()
    before = [one for one in known.releases if one.topic == topic_text and one.sha256 != sha256]
    release = Release(
        id=max((one.id for one in known.releases), default=0) + 1,
        seq=_next_seq(known),
        topic=topic_text,
        app_id=topic.app_id,
        major=topic.major,
        minor=topic.minor,
        channel=topic.channel,
        sha256=sha256,
        size=len(message),
        received_at="",
        from_line=from_line,
    )
    foreseen = replace(known, releases=[*others, *before, release])
    verdicts = await _verdicts(settings, foreseen, firmware, release, message)
    return Preview(replace(foreseen, verdicts={**known.verdicts, **verdicts}), release)


def forecasts(settings: Settings, preview: Preview) -> tuple[Forecast, ...]:
    """Run the planner, and return its answer for each device."""
    answer = plan(settings, preview.known)
    devices = {device.name: device for device in settings.devices}
    by_id = {job.id: job.device for job in preview.known.jobs}
    creates = {one.device: one for one in answer.job_changes if isinstance(one, CreateJob)}
    ends = {by_id[one.job_id]: one for one in answer.job_changes if isinstance(one, EndJob)}
    return tuple(
        Forecast(
            decision.device,
            topics_of(settings, devices[decision.device], _record(preview.known, decision.device)),
            preview.release in releases_for(settings, devices[decision.device], preview.known),
            decision,
            creates.get(decision.device),
            ends.get(decision.device),
        )
        for decision in answer.decisions
    )


def assessments(settings: Settings, known: StoreSnapshot, device: Device) -> tuple[Assessment, ...]:
    """Assess every release of a device's topics separately, oldest first."""
    profile_key = profile_of(settings, device).key
    releases = releases_for(settings, device, known)
    record = records_of(settings, known)[0].get(device.name, DeviceRecord(device.name))
    return tuple(
        _assess(device, record, release, known.verdicts.get((release.sha256, profile_key)))
        for release in releases
    )


def suspensions(settings: Settings, known: StoreSnapshot) -> tuple[Suspension, ...]:
    """Return the releases that the broker no longer has, by topic, oldest first."""
    found = []
    for release in sorted(known.releases, key=lambda one: (one.topic, one.seq)):
        if not release.suspended_at:
            continue
        followers = [one for one in settings.devices if release in releases_for(settings, one, known)]
        verdicts = [verdict for (sha256, _), verdict in known.verdicts.items() if sha256 == release.sha256]
        version = next((str(release.version(one)) for one in verdicts if one.is_genuine), "")
        found.append(Suspension(release, version, tuple(one.name for one in followers)))
    return tuple(found)


def _assess(device: Device, record: DeviceRecord, release: Release, verdict: Verdict | None) -> Assessment:
    if release.suspended_at:
        version = str(release.version(verdict)) if verdict is not None and verdict.is_genuine else ""
        reason = f"suspended since {release.suspended_at}: the broker no longer has it"
        return Assessment(release, version, "not_at_broker", reason)
    if verdict is None:
        return Assessment(release, "", "verifying", "it is being verified")
    if not verdict.is_genuine:
        return Assessment(release, "", verdict.code, verdict.reason)
    version = str(release.version(verdict))
    refusal = refusal_of(device, record, Candidate(release, verdict))
    if refusal is None:
        return Assessment(release, version, "update", "it may be installed")
    return Assessment(release, version, refusal.code, refusal.reason)


async def _verdicts(
    settings: Settings, known: StoreSnapshot, firmware: FirmwareReader, release: Release, message: bytes
) -> dict[tuple[str, str], Verdict]:
    """Verify the message once with each decode profile of the devices concerned."""
    verdicts: dict[tuple[str, str], Verdict] = {}
    for device in settings.devices:
        profile = profile_of(settings, device)
        key = release.sha256, profile.key
        if key not in verdicts and release in releases_for(settings, device, known):
            verdicts[key] = await firmware.preview(message, profile, settings.keys_of(device))
    return verdicts


def _record(known: StoreSnapshot, name: str) -> DeviceRecord:
    return known.devices.get(name, DeviceRecord(name))


def _next_seq(known: StoreSnapshot) -> int:
    """Return a number above all that are in use, as the store's counter would."""
    numbers = [release.seq for release in known.releases]
    numbers += [job.updated_seq for job in known.jobs]
    numbers += [record.contact_seq for record in known.devices.values()]
    return max(numbers, default=0) + 1
