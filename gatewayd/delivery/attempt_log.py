"""What one attempt moved, from the session's notices: for the status while it runs, for the history after."""

from gatewayd.delivery.progress import ProgressMeter
from gatewayd.jobs.model import AttemptRecord
from gatewayd.protocol.session import Progress, Traffic, TransferSession, TransferStarted


class AttemptLog:
    """The facts of one attempt. `durable` is the furthest the device ever got with this job's image."""

    def __init__(self, now: float, started_at: str, durable: int) -> None:
        self._began = now
        self._started_at = started_at
        self._meter = ProgressMeter()
        self._offset: int | None = None
        self._received = 0
        self.durable = durable
        self.resumes = 0

    @property
    def seconds(self) -> float:
        """From the first byte that was wanted to the latest that arrived."""
        return self._meter.seconds

    def started(self, event: TransferStarted, now: float) -> None:
        """The device says where it wants to go on; again after each interruption."""
        self._meter.start(now, event.offset)
        self.resumes += event.offset > 0
        self.durable = max(self.durable, event.offset)
        self._received = max(self._received, event.offset)
        if self._offset is None:
            self._offset = event.offset

    def progressed(self, event: Progress, now: float) -> int:
        """Bytes arrived; returns bytes per second."""
        self.durable = max(self.durable, event.durable)
        self._received = max(self._received, event.received)
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
        """Sum it up, as it stands or with its end."""
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
