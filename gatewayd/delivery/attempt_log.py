"""The figures of one attempt, from the session's notices: for the status meanwhile, and the history later."""

import math

from gatewayd.delivery.progress import ProgressMeter
from gatewayd.jobs.model import AttemptRecord
from gatewayd.protocol.session import Progress, Traffic, TransferSession, TransferStarted

# Each report wakes what shows or publishes it, which may cost more than the chunk itself. Nobody
# reads faster than this.
REPORT_INTERVAL_S = 0.25


class AttemptLog:
    """The figures of one attempt. `durable` is the most durable bytes in any attempt of the job."""

    def __init__(self, now: float, started_at: str, durable: int) -> None:
        self._began = now
        self._started_at = started_at
        self._meter = ProgressMeter()
        self._offset: int | None = None
        self._received = 0
        self._keeps_place = True
        self._reported_at = -math.inf
        self.durable = durable
        self.volatile = 0  # as Attempt.volatile
        self.resumes = 0

    @property
    def seconds(self) -> float:
        """From the first byte requested to the latest that arrived."""
        return self._meter.seconds

    def started(self, event: TransferStarted, now: float) -> None:
        """Note where the device resumes; called again after each interruption."""
        self._meter.start(now, event.offset)
        self.resumes += event.offset > 0
        if event.is_durable:
            self.durable = max(self.durable, event.offset)
        self._keeps_place = event.is_durable
        self._note_volatile(event.offset)
        self._received = max(self._received, event.offset)
        if self._offset is None:
            self._offset = event.offset

    def progressed(self, event: Progress, now: float) -> int | None:
        """Note that bytes arrived; return bytes per second, or None when it is too early to report again."""
        self.durable = max(self.durable, event.durable)
        self._received = max(self._received, event.received)
        self._note_volatile(event.received)
        if now - self._reported_at < REPORT_INTERVAL_S and event.received < event.size:
            return None
        self._reported_at = now
        return self._meter.rate(now, event.received)

    def record(
        self,
        now: float,
        session: TransferSession | None,
        *,
        ended_at: str = "",
        code: str = "",
        reason: str = "",
    ) -> AttemptRecord:
        """Return the record of the attempt, under way or ended."""
        traffic = session.traffic if session else Traffic()
        return AttemptRecord(
            started_at=self._started_at,
            ended_at=ended_at,
            duration_s=round(now - self._began, 3),
            offset=self._offset,
            received=self._received,
            bytes_sent=traffic.image_bytes_sent,
            bytes_repeated=traffic.image_bytes_repeated,
            resumes=self.resumes,
            code=code,
            reason=reason,
        )

    def _note_volatile(self, received: int) -> None:
        if not self._keeps_place:
            self.volatile = max(self.volatile, received)
