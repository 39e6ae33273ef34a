"""What should happen, as one pure function of what is known.

    (configuration, releases, verdicts, devices, jobs) -> a decision for each device, and commands

The gateway is level-triggered. Nothing here reacts to an event; whenever anything it looks at has changed the
whole question is asked again, and the answer is the same however often it is asked. So a device added later,
a spare board with old firmware or a corrected key lead to the update without anybody publishing again.

For one device: the topics it follows are those of the major.minor it *runs*. Of each topic the newest genuine
message counts: by authenticated build timestamp, then by arrival, so that a replayed old message displaces
nothing (with `allow_downgrade` by arrival alone). Of several channels the highest patch counts. A message
that is refused does not hide an older one that is genuine, but it is what a person is told about.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.config import Device, Settings
from gatewayd.errors import GatewaydError
from gatewayd.jobs.model import (
    NEVER_AGAIN,
    NO_CONTACT,
    UNSTEADY,
    WAITING,
    Command,
    CreateJob,
    Decision,
    DeviceRecord,
    EndJob,
    Job,
    JobState,
    Plan,
    Reading,
    Release,
    RomFacts,
    Verdict,
)
from gatewayd.ota.rules import Deliver, Payload, check_rollback, check_size, check_version, select_rom
from gatewayd.ota.topic import OtaTopic
from gatewayd.ota.version import Version
from gatewayd.protocol.session import ImageState

Verdicts = Mapping[tuple[str, str], Verdict]


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows; the other half of the planner's input is the configuration."""

    releases: Sequence[Release]
    verdicts: Verdicts
    devices: Mapping[str, DeviceRecord]
    jobs: Sequence[Job]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A genuine release in a device's reading."""

    release: Release
    verdict: Verdict

    @property
    def version(self) -> Version:
        """The version the device would run."""
        return self.release.version(self.verdict)

    @property
    def age(self) -> tuple[int, int]:
        """Orders the releases of one topic: what vouches for the order first, then arrival."""
        return self.verdict.timestamp_ms or 0, self.release.seq


def plan(settings: Settings, known: Known) -> Plan:
    """Decide for every configured device. Jobs of devices that are configured no more are cancelled."""
    decisions: list[Decision] = []
    commands: list[Command] = []
    to_verify: dict[tuple[str, str], tuple[Release, Reading, str]] = {}
    topics: set[str] = set()
    for device in settings.devices:
        record = known.devices.get(device.name, DeviceRecord(device.name))
        jobs = [job for job in known.jobs if job.device == device.name]
        followed = topics_of(settings, device, record)
        topics |= followed
        releases = [release for release in known.releases if release.topic in followed]
        reading = reading_of(settings, device)
        for release in releases:
            if (release.sha256, reading.key) not in known.verdicts:
                to_verify[release.sha256, reading.key] = (release, reading, device.keys or "")
        decision, following = _decide(device, record, _Offers(releases, known.verdicts, reading.key), jobs)
        decisions.append(decision)
        commands += following
    configured = {device.name for device in settings.devices}
    commands += [
        EndJob(
            job.id, JobState.CANCELLED, "not_configured", f"{job.device} is not in the configuration any more"
        )
        for job in known.jobs
        if job.device not in configured and job.is_active and job.state is not JobState.ACTIVATING
    ]
    return Plan(tuple(decisions), tuple(commands), tuple(to_verify.values()), frozenset(topics))


def installed_version(device: Device, record: DeviceRecord) -> Version:
    """Return what the device reported, or what the configuration believes until then."""
    if record.info is None or record.info.version is None:
        return device.version
    try:
        return Version.parse(record.info.version)
    except GatewaydError:
        return device.version


def topics_of(settings: Settings, device: Device, record: DeviceRecord) -> frozenset[str]:
    """Return the topics a device follows: those of the major.minor it runs."""
    version = installed_version(device, record)
    return frozenset(
        settings.mqtt.ota_topic.build(OtaTopic(device.app_id, version.major, version.minor, channel))
        for channel in device.channels
    )


def reading_of(settings: Settings, device: Device) -> Reading:
    """How the device reads messages, keys included: a corrected key makes another reading."""
    keys = settings.keys_of(device) if device.payload is Payload.ADVANCED else None
    return Reading(
        device.patch_encoding, device.payload, keys.fingerprint if keys else "", device.allow_unsigned
    )


def superfluous(known: Known) -> list[int]:
    """Return ids of releases that newer ones stand for.

    Of each topic the newest message stays, the newest genuine one in each reading, and what a job is about.
    """
    in_use = {job.message_sha256 for job in known.jobs if job.is_active}
    keep = {release.id for release in known.releases if release.sha256 in in_use}
    keep |= {release.id for release in _last_messages(known.releases)}
    for reading in {reading for _, reading in known.verdicts}:
        offers = _Offers(known.releases, known.verdicts, reading)
        for by_arrival in (False, True):
            newest = _newest(offers, by_arrival=by_arrival).values()
            keep |= {candidate.release.id for candidate in newest}
    return [release.id for release in known.releases if release.id not in keep]


@dataclass(frozen=True, slots=True)
class _Offers:
    """The releases of a device's topics with the verdicts in its reading."""

    releases: Sequence[Release]
    verdicts: Verdicts
    reading: str

    def verdict(self, release: Release) -> Verdict | None:
        return self.verdicts.get((release.sha256, self.reading))


def _last_messages(releases: Iterable[Release]) -> list[Release]:
    """Return the message of each topic that arrived last."""
    last: dict[str, Release] = {}
    for release in releases:
        if release.topic not in last or release.seq > last[release.topic].seq:
            last[release.topic] = release
    return list(last.values())


def _newest(offers: _Offers, *, by_arrival: bool) -> dict[str, Candidate]:
    """Return the newest genuine release of each topic."""

    def order(candidate: Candidate) -> tuple[int, int]:
        return (0, candidate.release.seq) if by_arrival else candidate.age

    newest: dict[str, Candidate] = {}
    for release in offers.releases:
        verdict = offers.verdict(release)
        if verdict is None or not verdict.is_genuine:
            continue
        candidate = Candidate(release, verdict)
        if release.topic not in newest or order(candidate) > order(newest[release.topic]):
            newest[release.topic] = candidate
    return newest


def _decide(
    device: Device, record: DeviceRecord, offers: _Offers, jobs: Sequence[Job]
) -> tuple[Decision, list[Command]]:
    active = next((job for job in jobs if job.is_active), None)
    best, refusal = _choose(device, record, offers)
    commands: list[Command] = []
    if active is not None:
        is_out = active.state is JobState.ACTIVATING  # only the device can say what became of it
        end = None if is_out else _end_of(device, record, active, best, offers)
        if end is None:
            return _standing(device, active), []
        commands.append(end)
    if any(offers.verdict(release) is None for release in offers.releases):
        return Decision(device.name, "verifying", "a release is being verified"), commands
    if best is None:
        return refusal or Decision(device.name, "no_release", "nothing was published for it"), commands
    blocked = _failed_before(device, record, best, jobs)
    if blocked is not None:
        return blocked, commands
    update = _decision(device, best, "update", f"{best.version} is newer")
    return update, [*commands, _create(device, record, best)]


def _choose(
    device: Device, record: DeviceRecord, offers: _Offers
) -> tuple[Candidate | None, Decision | None]:
    """Return the release that the device should run, or why there is none."""
    told = [(release.seq, _refused(device, release, verdict)) for release, verdict in _not_genuine(offers)]
    newest = _newest(offers, by_arrival=device.allow_downgrade)
    told += [(one.release.seq, refusal) for one, refusal in _stale(device, record, offers, newest)]
    for candidate in sorted(newest.values(), key=lambda one: (one.version.patch, *one.age), reverse=True):
        refusal = refusal_of(device, record, candidate)
        if refusal is None:
            return candidate, None
        told.append((candidate.release.seq, refusal))
        if refusal.code == "up_to_date":
            break  # with allow_downgrade the next channel would lead back and forth between the two
    told.sort(key=lambda one: (one[1].refused, one[0]))
    return None, told[-1][1] if told else None


def _stale(
    device: Device, record: DeviceRecord, offers: _Offers, newest: Mapping[str, Candidate]
) -> Iterable[tuple[Candidate, Decision]]:
    """Yield what was published last, is genuine, and older than what the device got."""
    for release in _last_messages(offers.releases):
        verdict = offers.verdict(release)
        if verdict is None or not verdict.is_genuine or newest[release.topic].release == release:
            continue
        refusal = refusal_of(device, record, Candidate(release, verdict))
        if refusal is not None and refusal.code == "rollback":
            yield Candidate(release, verdict), refusal


def refusal_of(device: Device, record: DeviceRecord, candidate: Candidate) -> Decision | None:
    """Why a device does not take a genuine release; None: it does."""
    installed = installed_version(device, record)
    runs = _runs(device, record, candidate)
    on_trial = runs and record.info is not None and record.info.image_state is ImageState.ON_TRIAL
    if not on_trial and (runs or candidate.version == installed):
        return _decision(device, candidate, "up_to_date", f"it runs {candidate.version}")
    try:
        check_rollback(
            record.mark,
            candidate.verdict.timestamp_ms,
            bytes.fromhex(candidate.verdict.container_sha256),
            allow_downgrade=device.allow_downgrade,
        )
        if on_trial:
            return None  # the job will find it running, and confirm it
        check_version(installed, candidate.version, allow_downgrade=device.allow_downgrade)
        return _unfit(device, record, candidate)
    except GatewaydError as error:
        return _decision(device, candidate, error.code, str(error), refused=error.code != "not_newer")


def _unfit(device: Device, record: DeviceRecord, candidate: Candidate) -> Decision | None:
    """Why the device's free slot cannot take it; None while it has not said what it has."""
    info = record.info
    if info is None:
        return None
    images = _images(device, candidate.verdict)
    by_slot = device.payload is Payload.ADVANCED and device.deliver is Deliver.ROM
    image = select_rom(images, info.slot_address, device.slot_match) if by_slot else images[0]
    check_size(image.size, info.slot_size)
    if info.image_state is ImageState.REVERTED and info.tried_sha256 == bytes.fromhex(image.sha256):
        reason = f"{candidate.version} was tried and the bootloader went back to the old image"
        return _decision(device, candidate, "reverted", reason, refused=True)
    return None


def _runs(device: Device, record: DeviceRecord, candidate: Candidate) -> bool:
    """Whether the device runs any image of it: of two ROMs the other one is for the slot that is free now."""
    info = record.info
    return info is not None and any(
        info.runs(bytes.fromhex(image.sha256), str(candidate.version))
        for image in _images(device, candidate.verdict)
    )


def _images(device: Device, verdict: Verdict) -> tuple[RomFacts, ...]:
    """Return what of a release can be sent to the device."""
    if device.payload is Payload.STANDARD or device.deliver is Deliver.CONTAINER:
        return (RomFacts(0, verdict.body_size, verdict.body_sha256),)
    return verdict.roms


def _end_of(
    device: Device, record: DeviceRecord, active: Job, best: Candidate | None, offers: _Offers
) -> EndJob | None:
    """Why an active job does not stand: its release is gone, or a newer one supersedes it while it waits."""
    is_waiting = active.state in WAITING
    is_same = best is not None and best.release.sha256 == active.message_sha256
    if best is not None and _supersedes(device, best, active):
        # What runs is let run; the newer one follows when it has ended.
        reason = "no approval is needed any more" if is_same else f"{best.version} was published"
        return EndJob(active.id, JobState.SUPERSEDED, "superseded", reason) if is_waiting else None
    if is_same:
        return None
    release = next((one for one in offers.releases if one.sha256 == active.message_sha256), None)
    if release is None:
        reason = f"{active.version} is not published for it any more"
        return EndJob(active.id, JobState.CANCELLED, "withdrawn", reason)
    verdict = offers.verdict(release)
    if verdict is not None and not verdict.is_genuine:
        return EndJob(active.id, JobState.CANCELLED, verdict.code, verdict.reason)
    refusal = refusal_of(device, record, Candidate(release, verdict)) if verdict and is_waiting else None
    if refusal is None or (active.activated_at and refusal.code in ("up_to_date", "reverted")):
        return None  # what was activated is found by the next attempt, which writes it down
    return EndJob(active.id, JobState.CANCELLED, refusal.code, refusal.reason)


def _supersedes(device: Device, best: Candidate, active: Job) -> bool:
    """A higher patch, and an authenticated timestamp that is not older; or no approval needed any more."""
    if best.release.sha256 == active.message_sha256:
        return active.state is JobState.OFFERED and device.install == "auto"
    if best.version.patch <= Version.parse(active.version).patch:
        return False
    return (best.verdict.timestamp_ms or 0) >= (active.timestamp_ms or 0)


def _failed_before(
    device: Device, record: DeviceRecord, best: Candidate, jobs: Sequence[Job]
) -> Decision | None:
    """Whether an earlier job with this very release forbids another; None: it does not."""
    version = str(best.version)
    same = [job for job in jobs if job.message_sha256 == best.release.sha256 and job.version == version]
    if not same:
        return None
    last = same[-1]
    if last.state is JobState.CANCELLED and last.code == "cancelled":
        return _decision(device, best, "cancelled", f"job {last.id} was cancelled", refused=True)
    if last.state is not JobState.FAILED or _may_try_again(record, last):
        return None  # what the planner itself cancelled, it would have found again
    if last.code == "spool_damaged" and best.release.seq > last.updated_seq:
        return None  # it was published again
    return _decision(device, best, last.code, f"job {last.id} failed: {last.reason}", refused=True)


def _may_try_again(record: DeviceRecord, failed: Job) -> bool:
    """Whether the device, heard from since, gives a reason: it answers, is another board, has restarted."""
    info = record.info
    if info is None or record.contact_seq <= failed.updated_seq:
        return False
    if failed.code in NO_CONTACT or info.device_id != failed.device_id:
        return True
    return info.boot_id != failed.boot_id and failed.code not in NEVER_AGAIN | UNSTEADY


def _not_genuine(offers: _Offers) -> list[tuple[Release, Verdict]]:
    """Return what is refused and not obsolete: a topic's last message."""
    found = [(release, offers.verdict(release)) for release in _last_messages(offers.releases)]
    return [
        (release, verdict) for release, verdict in found if verdict is not None and not verdict.is_genuine
    ]


def _refused(device: Device, release: Release, verdict: Verdict) -> Decision:
    return Decision(device.name, verdict.code, verdict.reason, refused=True, release_id=release.id)


def _decision(
    device: Device, candidate: Candidate, code: str, reason: str, *, refused: bool = False
) -> Decision:
    return Decision(device.name, code, reason, refused, candidate.release.id, str(candidate.version))


def _standing(device: Device, active: Job) -> Decision:
    return Decision(
        device.name, "update", f"job {active.id} is under way", False, active.release_id, active.version
    )


def _create(device: Device, record: DeviceRecord, best: Candidate) -> CreateJob:
    return CreateJob(
        device=device.name,
        release_id=best.release.id,
        message_sha256=best.release.sha256,
        from_version=str(installed_version(device, record)),
        version=str(best.version),
        state=JobState.OFFERED if device.install == "manual" else JobState.QUEUED,
        timestamp_ms=best.verdict.timestamp_ms,
        container_sha256=best.verdict.container_sha256,
    )
