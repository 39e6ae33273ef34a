"""Which releases may go, and which must be requested from the broker again: pure."""

from collections.abc import Sequence

from gatewayd.codes import Code
from gatewayd.jobs.eligibility import is_pushed, push_topic
from gatewayd.jobs.model import Job, Release
from gatewayd.jobs.transitions import JobState
from gatewayd.planning.offers import Offers, last_messages, newest_of
from gatewayd.planning.planner import StoreSnapshot


def superfluous(known: StoreSnapshot) -> list[int]:
    """Return ids of releases that are no longer needed.

    Needed are the newest message of each topic, its newest genuine one for each decode profile, and those
    that active jobs use. A push is a command, not a state: it goes once it is carried out or cancelled.
    """
    in_use = {job.message_sha256 for job in known.jobs if job.is_active}
    keep = {release.id for release in known.releases if release.sha256 in in_use}
    keep |= {release.id for release in last_messages(known.releases)}
    for profile_key in {key for _, key in known.verdicts}:
        offers = Offers(known.releases, known.verdicts, profile_key)
        for by_arrival in (False, True):
            newest = newest_of(offers, by_arrival=by_arrival).values()
            keep |= {candidate.release.id for candidate in newest}
    return [
        release.id
        for release in known.releases
        if release.id not in keep or (release.sha256 not in in_use and _is_spent(release, known.jobs))
    ]


def damaged_topics(known: StoreSnapshot) -> frozenset[str]:
    """Return the topics whose message is damaged or gone, and must be requested from the broker again."""
    lost = {sha256 for (sha256, _), verdict in known.verdicts.items() if verdict.code == Code.SPOOL_DAMAGED}
    failed = {job.message_sha256: job.updated_seq for job in known.jobs if job.code == Code.SPOOL_DAMAGED}
    return frozenset(
        release.topic
        for release in known.releases
        if release.sha256 in lost or failed.get(release.sha256, 0) > release.seq
    )


def _is_spent(release: Release, jobs: Sequence[Job]) -> bool:
    """Whether this was pushed and its job has ended, but not failed: a failed one may be retried."""
    return is_pushed(release.topic) and any(
        release.topic == push_topic(job.device)
        and release.sha256 == job.message_sha256
        and release.seq < job.created_seq
        and not (job.is_active or job.state is JobState.FAILED)
        for job in jobs
    )
