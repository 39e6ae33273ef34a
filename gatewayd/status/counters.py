"""What is counted since the daemon started, for the metrics.

In memory only: programs that read counters expect them to begin at zero with each start.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gatewayd.jobs.model import AttemptRecord, Job


@dataclass(slots=True)
class Transferred:
    """Bytes of images that attempts sent to a device; `resumes`: how often it had some of them already."""

    sent_bytes: int = 0
    repeated_bytes: int = 0
    resumes: int = 0

    def add(self, attempt: AttemptRecord) -> None:
        """Add what an attempt moved."""
        self.sent_bytes += attempt.bytes_sent
        self.repeated_bytes += attempt.bytes_repeated
        self.resumes += attempt.resumes


@dataclass(frozen=True, slots=True)
class CounterFigures:
    """A copy of all counters. `ended`: by device, state and code; `messages`: by outcome."""

    transferred: dict[str, Transferred] = field(default_factory=dict)
    ended: dict[tuple[str, str, str], int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)


class Counters:
    """Counts attempts, jobs and messages. For use on one event loop."""

    def __init__(self) -> None:
        self._transferred: dict[str, Transferred] = {}
        self._ended: Counter[tuple[str, str, str]] = Counter()
        self._messages: Counter[str] = Counter()
        self._seen: set[int] | None = None  # jobs that have ended, and were counted

    def attempt_ended(self, device: str, attempt: AttemptRecord) -> None:
        """Count what an attempt moved."""
        self._transferred.setdefault(device, Transferred()).add(attempt)

    def message(self, outcome: str) -> None:
        """Count a message by what came of it."""
        self._messages[outcome] += 1

    def jobs_known(self, jobs: Sequence[Job]) -> None:
        """Count the jobs that have ended since the last call; the first one only notes what there is."""
        ended = {job.id: job for job in jobs if not job.is_active}
        if self._seen is not None:
            for number in ended.keys() - self._seen:
                job = ended[number]
                self._ended[job.device, str(job.state), job.code] += 1
        self._seen = set(ended)

    def figures(self) -> CounterFigures:
        """Return what was counted so far."""
        transferred = {name: replace(one) for name, one in self._transferred.items()}
        return CounterFigures(transferred, dict(self._ended), dict(self._messages))
