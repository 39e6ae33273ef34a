"""The states of a job, and the table of transitions between them."""

from enum import StrEnum


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
    # Not CANCELLED: the device may already be running the new image. TRANSFERRING again, if the device
    # reports that activation had no effect.
    _S.ACTIVATING: frozenset({_S.TRANSFERRING, _S.SUCCEEDED, _S.QUEUED, _S.FAILED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.SUPERSEDED: frozenset(),
    _S.CANCELLED: frozenset(),
}
ENDED = frozenset(state for state, following in TRANSITIONS.items() if not following)
WAITING = frozenset({_S.OFFERED, _S.QUEUED})
# States in which a job can be left when gatewayd stops, or when the end of an attempt could not be stored.
INTERRUPTIBLE = frozenset({_S.TRANSFERRING, _S.STAGED})


class IllegalTransitionError(RuntimeError):
    """A job was to make a transition that is not in the table: a bug. Nothing was changed."""


def check_transition(old: JobState, new: JobState) -> None:
    """Raise IllegalTransitionError unless the table allows `old` to `new`."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransitionError(f"a job cannot go from {old} to {new}")
