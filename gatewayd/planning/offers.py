"""What was published for a device, and which of it counts: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.jobs.eligibility import Candidate
from gatewayd.jobs.model import Decision, Release, Verdict

Verdicts = Mapping[tuple[str, str], Verdict]


@dataclass(frozen=True, slots=True)
class Offers:
    """The releases of a device's topics with the verdicts for its decode profile, and what was not stored.

    `suspended` are those that the broker has no longer; see StoreSnapshot for `unconfirmed` and `resting`.
    `ordered`: messages, by SHA-256, that were given up and that a person has ordered to be tried once more.
    """

    releases: Sequence[Release]
    verdicts: Verdicts
    profile_key: str
    turned_away: Sequence[Decision] = ()
    suspended: Sequence[Release] = ()
    unconfirmed: frozenset[str] = frozenset()
    resting: frozenset[str] = frozenset()
    ordered: frozenset[str] = frozenset()

    def is_held(self, release: Release) -> bool:
        """Whether the broker is yet to say that it still has the message."""
        return release.retained and release.topic in self.unconfirmed

    def verdict(self, release: Release) -> Verdict | None:
        """What verification made of a release; None: nothing yet."""
        return self.verdicts.get((release.sha256, self.profile_key))


def last_messages(releases: Iterable[Release]) -> list[Release]:
    """Return the message of each topic that arrived last."""
    last: dict[str, Release] = {}
    for release in releases:
        if release.topic not in last or release.seq > last[release.topic].seq:
            last[release.topic] = release
    return list(last.values())


def newest_of(offers: Offers, *, by_arrival: bool) -> dict[str, Candidate]:
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


def not_genuine(offers: Offers) -> list[tuple[Release, Verdict]]:
    """Return the last message of each topic where it is refused; older ones are obsolete."""
    found = [(release, offers.verdict(release)) for release in last_messages(offers.releases)]
    return [
        (release, verdict) for release, verdict in found if verdict is not None and not verdict.is_genuine
    ]
