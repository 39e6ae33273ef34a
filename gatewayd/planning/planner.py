"""What should happen, as one pure function of what is known.

    (configuration, releases, verdicts, devices, jobs) -> a decision for each device, and changes of jobs

The planner is level-triggered. Nothing here reacts to an event: whenever an input changes, everything is
planned again, and the same input always gives the same plan. So a device added later, a spare board with old
firmware or a corrected key leads to the update without publishing again.

For one device: the topics it follows are those of the major.minor it *runs*, or of its `line:`. On each topic
the newest genuine message counts: by authenticated build timestamp, then by arrival, so that a replayed old
message displaces nothing (with `allow_downgrade` by arrival alone). Among several channels the highest
version counts. A message that is refused does not hide an older one that is genuine, but the refusal is what
is reported.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gatewayd.codes import Again, Code, meaning
from gatewayd.config import Device, Settings
from gatewayd.errors import GatewaydError
from gatewayd.jobs.eligibility import (
    Candidate,
    decision_on,
    installed_version,
    is_pushed,
    profile_of,
    push_topic,
    refusal_of,
    topics_of,
)
from gatewayd.jobs.model import (
    BoardKey,
    CreateJob,
    Decision,
    DecodeProfile,
    DeviceRecord,
    EndJob,
    Job,
    JobChange,
    Pause,
    Plan,
    Release,
    SaveMark,
    Verdict,
)
from gatewayd.jobs.rollback_marks import Marked, effective
from gatewayd.jobs.transitions import WAITING, JobState
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.version import Version
from gatewayd.planning.offers import Offers, Verdicts, last_messages, newest_of, not_genuine

# The longest that a device which answers and fails is left alone before another job is made for it.
REST_LIMIT_S = 900


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """What the store knows; the other half of the planner's input is the configuration."""

    releases: Sequence[Release]
    verdicts: Verdicts
    devices: Mapping[str, DeviceRecord]
    jobs: Sequence[Job]
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    marks: Mapping[BoardKey, RollbackMark] = field(default_factory=dict)
    # Not stored: why the last message of a topic was refused before it could be.
    turned_away: Mapping[str, GatewaydError] = field(default_factory=dict)
    # Not stored: topics of which the broker is yet to say that it still has their message.
    unconfirmed: frozenset[str] = frozenset()
    # Not stored: devices and messages (by SHA-256) that failed together too often lately.
    resting: frozenset[tuple[str, str]] = frozenset()


def plan(settings: Settings, known: StoreSnapshot) -> Plan:
    """Decide for every configured device. Jobs of devices that are no longer configured are cancelled."""
    decisions: list[Decision] = []
    changes: list[JobChange] = []
    to_verify: dict[tuple[str, str], tuple[Release, DecodeProfile, str]] = {}
    topics: set[str] = set()
    held: set[int] = set()
    jobs_of: dict[str, list[Job]] = {}
    for job in known.jobs:
        jobs_of.setdefault(job.device, []).append(job)
    records, marks = records_of(settings, known)
    for device in settings.devices:
        record = records.get(device.name, DeviceRecord(device.name))
        jobs = jobs_of.get(device.name, [])
        topics |= topics_of(settings, device, record)
        if reason := settings.missing_keys(device):
            decisions.append(Decision(device.name, "keys_unusable", reason, refused=True))
            continue
        releases = releases_for(settings, device, known)
        profile = profile_of(settings, device)
        for release in releases:
            if (release.sha256, profile.key) not in known.verdicts:
                to_verify[release.sha256, profile.key] = (release, profile, device.keys or "")
        turned_away = [
            Decision(device.name, error.code, str(error), refused=error.code != Code.NOT_NEWER)
            for topic, error in known.turned_away.items()
            if topic in topics_of(settings, device, record)
        ]
        current = [release for release in releases if not release.suspended_at]
        suspended = [release for release in releases if release.suspended_at]
        resting = frozenset(sha256 for name, sha256 in known.resting if name == device.name)
        offers = Offers(
            current, known.verdicts, profile.key, turned_away, suspended, known.unconfirmed, resting
        )
        decision, following = _decide(device, record, offers, jobs)
        decisions.append(decision)
        changes += following
        held |= {job.id for job in jobs if _is_held(job, offers)}
    configured = {device.name for device in settings.devices}
    changes += [
        EndJob(
            job.id, JobState.CANCELLED, "not_configured", f"{job.device} is no longer in the configuration"
        )
        for job in known.jobs
        if job.device not in configured and job.is_active and job.state is not JobState.ACTIVATING
    ]
    return Plan(
        tuple(decisions),
        tuple(changes),
        tuple(to_verify.values()),
        frozenset(topics),
        marks,
        frozenset(held),
    )


def records_of(
    settings: Settings, known: StoreSnapshot
) -> tuple[Mapping[str, DeviceRecord], tuple[SaveMark, ...]]:
    """Return every device's record with its anti-rollback mark, and the marks that are not stored yet."""
    return effective(settings, Marked(known.devices, known.marks, known.verdicts, known.jobs))


def releases_for(settings: Settings, device: Device, known: StoreSnapshot) -> list[Release]:
    """Return what was published on the topics a device follows, and what was pushed to it; oldest first."""
    record = known.devices.get(device.name, DeviceRecord(device.name))
    followed = topics_of(settings, device, record) | {push_topic(device.name)}
    return [release for release in known.releases if release.topic in followed]


def _decide(
    device: Device, record: DeviceRecord, offers: Offers, jobs: Sequence[Job]
) -> tuple[Decision, list[JobChange]]:
    active = next((job for job in jobs if job.is_active), None)
    offers = replace(offers, ordered=_ordered_again(jobs))
    best, refusal = _choose(device, record, offers)
    changes: list[JobChange] = []
    if active is not None:
        is_out = active.state is JobState.ACTIVATING  # only the device can say what became of it
        end = None if is_out else _end_of(device, record, active, best, offers)
        if end is None:
            return _standing(device, active), []
        changes.append(end)
    if any(offers.verdict(release) is None for release in offers.releases):
        return Decision(device.name, "verifying", "a release is being verified"), changes
    if best is None:
        refusal = refusal or _suspended(device, record, offers)
        return refusal or Decision(device.name, "no_release", "nothing was published for it"), changes
    settled = _settled_before(device, record, best, jobs, is_resting=best.release.sha256 in offers.resting)
    if settled is not None:
        return settled, changes
    if offers.is_held(best.release):
        reason = f"the broker is asked whether it still has {best.version}"
        return decision_on(device, best, "verifying", reason), changes
    update = decision_on(device, best, "update", _why(device, record, best))
    return update, [
        *changes,
        _create(device, record, best, retry_reverted=best.release.sha256 in offers.ordered),
    ]


def _suspended(device: Device, record: DeviceRecord, offers: Offers) -> Decision | None:
    """Return what the newest release that the broker has no longer means for the device; None: nothing."""
    for release in reversed(offers.suspended):
        verdict = offers.verdict(release)
        if verdict is None or not verdict.is_genuine:
            continue
        candidate = Candidate(release, verdict)
        if (refusal := _refusal_of(device, record, candidate, offers)) is not None:
            return refusal
        reason = (
            f"{candidate.version} is suspended: the broker no longer has it (publish it again to continue)"
        )
        return decision_on(device, candidate, "not_at_broker", reason, refused=True)
    return None


def _is_held(job: Job, offers: Offers) -> bool:
    """Whether a job was not begun, and waits for the broker's word on its release."""
    return (
        job.state is JobState.QUEUED
        and job.image is None
        and any(one.sha256 == job.message_sha256 and offers.is_held(one) for one in offers.releases)
    )


def _refusal_of(
    device: Device, record: DeviceRecord, candidate: Candidate, offers: Offers
) -> Decision | None:
    refusal = refusal_of(device, record, candidate)
    is_ordered = candidate.release.sha256 in offers.ordered
    return None if is_ordered and refusal is not None and refusal.code == Code.REVERTED else refusal


def _ordered_again(jobs: Sequence[Job]) -> frozenset[str]:
    """Return the messages of which a person has ordered one more try although the image was given up."""
    last = {job.message_sha256: job for job in jobs}
    return frozenset(
        sha256
        for sha256, job in last.items()
        if (job.retry_reverted if job.is_active else job.retry_allowed)
        and (job.is_active or meaning(job.code).again is Again.NEVER)
    )


def _why(device: Device, record: DeviceRecord, best: Candidate) -> str:
    installed = installed_version(device, record)
    believed = "it runs" if record.info is not None else "it is believed to run"
    topic = best.release.topic
    origin = "was pushed to it" if is_pushed(topic) else f"was published on {topic}"
    return f"{believed} {installed}, and {best.version} {origin}"


def _choose(device: Device, record: DeviceRecord, offers: Offers) -> tuple[Candidate | None, Decision | None]:
    """Return the release that the device should run, or why there is none."""
    told = [(release.seq, _refused(device, release, verdict)) for release, verdict in not_genuine(offers)]
    newest = newest_of(offers, by_arrival=device.allow_downgrade)
    told += [(one.release.seq, refusal) for one, refusal in _stale(device, record, offers, newest)]
    for candidate in sorted(newest.values(), key=lambda one: (one.version, *one.age), reverse=True):
        refusal = _refusal_of(device, record, candidate, offers)
        if refusal is None:
            return candidate, None
        told.append((candidate.release.seq, refusal))
        if refusal.code == Code.UP_TO_DATE:
            break  # with allow_downgrade the next channel would alternate between the two
    told.sort(key=lambda one: (one[1].refused, one[0]))
    latest = [decision for _, decision in told] + list(offers.turned_away)
    return None, latest[-1] if latest else None


def _stale(
    device: Device, record: DeviceRecord, offers: Offers, newest: Mapping[str, Candidate]
) -> Iterable[tuple[Candidate, Decision]]:
    """Yield each topic's last message if it is genuine and older than what the device got."""
    for release in last_messages(offers.releases):
        verdict = offers.verdict(release)
        if verdict is None or not verdict.is_genuine or newest[release.topic].release == release:
            continue
        refusal = _refusal_of(device, record, Candidate(release, verdict), offers)
        if refusal is not None and refusal.code == Code.ROLLBACK:
            yield Candidate(release, verdict), refusal


def _end_of(
    device: Device, record: DeviceRecord, active: Job, best: Candidate | None, offers: Offers
) -> EndJob | None:
    """Return how an active job must end: its release is gone, or superseded while the job waits."""
    is_waiting = active.state in WAITING
    is_same = best is not None and best.release.sha256 == active.message_sha256
    if best is not None and _supersedes(device, best, active):
        # A running job is left to finish; the newer release follows.
        reason = "approval is no longer needed" if is_same else f"{best.version} was published"
        return EndJob(active.id, JobState.SUPERSEDED, "superseded", reason) if is_waiting else None
    if is_same:
        return None
    release = next((one for one in offers.releases if one.sha256 == active.message_sha256), None)
    if release is None:
        is_suspended = any(one.sha256 == active.message_sha256 for one in offers.suspended)
        code = "not_at_broker" if is_suspended else "withdrawn"
        where = "at the broker" if is_suspended else "published for it"
        return EndJob(active.id, JobState.CANCELLED, code, f"{active.version} is no longer {where}")
    verdict = offers.verdict(release)
    if verdict is not None and not verdict.is_genuine:
        return EndJob(active.id, JobState.CANCELLED, verdict.code, verdict.reason)
    refusal = (
        _refusal_of(device, record, Candidate(release, verdict), offers) if verdict and is_waiting else None
    )
    if refusal is None or (active.activated_at and meaning(refusal.code).is_outcome):
        return None  # the next attempt finds what was activated, and records it
    return EndJob(active.id, JobState.CANCELLED, refusal.code, refusal.reason)


def _supersedes(device: Device, best: Candidate, active: Job) -> bool:
    """Whether `best` is a higher version and no older by its timestamp, or no longer needs approval."""
    if best.release.sha256 == active.message_sha256:
        return active.state is JobState.OFFERED and device.install == "auto"
    if best.version <= Version.parse(active.version):
        return False
    return (best.verdict.timestamp_ms or 0) >= (active.timestamp_ms or 0)


def _settled_before(
    device: Device, record: DeviceRecord, best: Candidate, jobs: Sequence[Job], *, is_resting: bool
) -> Decision | None:
    """Return why an earlier job with this release rules out another; None: it does not."""
    version = str(best.version)
    same = [job for job in jobs if job.message_sha256 == best.release.sha256 and job.version == version]
    if not same:
        return None
    last = same[-1]
    is_pushed_again = is_pushed(best.release.topic) and best.release.seq > last.updated_seq
    if last.retry_allowed or (is_pushed_again and meaning(last.code).again is not Again.NEVER):
        return None
    if last.state is JobState.SUCCEEDED and _still_runs(record, last):
        return decision_on(device, best, "up_to_date", f"it runs what job {last.id} installed")
    if last.state is JobState.CANCELLED and last.code == Code.CANCELLED:
        return decision_on(
            device,
            best,
            "cancelled",
            f"job {last.id} was cancelled (gatewayctl retry {device.name} tries it again)",
        )
    is_published_again = last.code == Code.SPOOL_DAMAGED and best.release.seq > last.updated_seq
    if last.state is not JobState.FAILED or is_published_again:
        return None  # a reason of the planner's own to cancel it would have been found again
    return _after_failure(device, record, best, last, is_resting=is_resting)


def _after_failure(
    device: Device, record: DeviceRecord, best: Candidate, failed: Job, *, is_resting: bool
) -> Decision | None:
    may_try = _may_try_again(record, failed)
    if may_try and not is_resting:
        return None
    later = f"; it failed often, and is tried again within {REST_LIMIT_S // 60} min" if may_try else ""
    reason = f"job {failed.id} failed: {failed.reason}{later}"
    return decision_on(device, best, failed.code, reason, refused=True)


def _still_runs(record: DeviceRecord, job: Job) -> bool:
    """Whether the device runs the job's image, compared by image id, whatever version it reports."""
    return record.info is not None and job.image is not None and record.info.running == job.image


def _may_try_again(record: DeviceRecord, failed: Job) -> bool:
    """Whether later contact gives a reason: the device answers, is another board, or has restarted."""
    info = record.info
    if info is None or record.contact_seq <= failed.updated_seq:
        return False
    again = meaning(failed.code).again
    if again is Again.AFTER_CONTACT or info.device_id != failed.device_id:
        return True
    return again is Again.AFTER_RESTART and info.boot_id != failed.boot_id


def _refused(device: Device, release: Release, verdict: Verdict) -> Decision:
    return Decision(device.name, verdict.code, verdict.reason, refused=True, release_id=release.id)


def _standing(device: Device, active: Job) -> Decision:
    reason = f"job {active.id} is under way"
    if active.state is JobState.OFFERED:
        reason = f"job {active.id} waits for approval (gatewayctl approve {device.name})"
    return Decision(device.name, "update", reason, False, active.release_id, active.version)


def _create(device: Device, record: DeviceRecord, best: Candidate, *, retry_reverted: bool) -> CreateJob:
    return CreateJob(
        device=device.name,
        release_id=best.release.id,
        message_sha256=best.release.sha256,
        from_version=str(installed_version(device, record)),
        version=str(best.version),
        state=JobState.OFFERED if device.install == "manual" else JobState.QUEUED,
        timestamp_ms=best.verdict.timestamp_ms,
        container_sha256=best.verdict.container_sha256,
        topic=best.release.topic,
        decision=_why(device, record, best),
        retry_reverted=retry_reverted,
    )
