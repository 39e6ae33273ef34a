"""An upload as frames: its requests go out with numbers, and answers become offsets and events.

Which chunk is next, and what an offset means, is upload.py's.
"""

from collections import deque

from gatewayd.protocol.session import Event, Image, Progress, TransferStarted
from gatewayd.protocol.smp import answers, failures
from gatewayd.protocol.smp.exchange import Exchange
from gatewayd.protocol.smp.facts import Facts
from gatewayd.protocol.smp.frames import Frame, Group, ImageCommand, Op
from gatewayd.protocol.smp.upload import Plan, Upload

_REFUSALS = 2  # that may be due to changed bytes, on a line without checksums


class FramedUpload:
    """One upload over `exchange`, which must have no question under way. Notices are appended to `events`."""

    def __init__(
        self, image: Image, facts: Facts, exchange: Exchange, events: deque[Event], now: float
    ) -> None:
        plan = Plan(
            memoryview(image.content),
            image.sha256,
            facts.image,
            room=exchange.wire.room(facts.buffers.size),
            window=1 if exchange.wire.is_unchecked else max(1, facts.buffers.count - 1),
            wire_s=exchange.wire_s,
            silence_s=exchange.wire.silence_s,
            packet=lambda: exchange.wire.packet,
        )
        self._upload = Upload(plan, exchange.clear_at(now), exchange.turnaround_s)
        self._exchange = exchange
        self._events = events
        self._refusals = 0  # in a row, on a line without checksums

    @property
    def is_complete(self) -> bool:
        """Whether the device has all bytes."""
        return self._upload.is_complete

    @property
    def turnaround_s(self) -> float | None:
        """As measured of the link and the device together."""
        return self._upload.turnaround_s

    def deadline(self) -> float | None:
        """Return when the next request is due, or a repetition."""
        return self._upload.deadline()

    def next_frame(self, now: float) -> Frame | None:
        """Return the next request, if one may be sent now."""
        upload, traffic = self._upload, self._exchange.traffic
        if not upload.may_send(now):
            return None
        sequence = self._exchange.next_sequence()
        payload = upload.next_request(sequence, now)
        traffic.image_bytes_sent += len(payload["data"])
        traffic.image_bytes_repeated += upload.repeated
        return Frame(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, sequence, payload)

    def take(self, frame: Frame, now: float) -> bool:
        """Take an answer; return whether the upload is over, complete or in doubt. Raises GatewaydError."""
        upload = self._upload
        refused = answers.refusal(frame)
        offset = answers.offset_of(frame)
        if refused is not None:
            self._on_refused(frame.sequence, refused, now)
            return False
        if offset is None:
            return False
        self._on_offset(frame.sequence, offset, now)
        if frame.payload.get("match") is False:
            raise failures.digest_mismatch("says that its hash does not match")
        return upload.is_complete or upload.is_in_doubt

    def handle_timeout(self, now: float) -> None:
        """Repeat what was not answered. Raises DeviceError."""
        self._exchange.wire.drop_unfinished()
        self._upload.handle_timeout(now)

    def begin_again(self, now: float) -> None:
        """Go on from offset 0, now that it is known that the device has nothing."""
        self._upload.begin_again(now)

    def _on_offset(self, sequence: int, offset: int, now: float) -> None:
        upload = self._upload
        starts = upload.starts
        has_advanced = upload.take(sequence, offset, now)
        if upload.starts > starts:
            self._exchange.traffic.resumes += upload.start > 0
            self._events.append(TransferStarted(upload.start, upload.size, is_durable=False))
        if has_advanced:
            self._refusals = 0
            self._exchange.has_got_on()
            self._report()

    def _report(self) -> None:
        """Report the device's progress; only the latest report is kept for the caller.

        Nothing is durable: what the device has of the image is in its flash, but its offset only in memory.
        """
        if self._events and isinstance(self._events[-1], Progress):
            self._events.pop()
        upload = self._upload
        self._events.append(Progress(upload.wanted, 0, upload.size))

    def _on_refused(self, sequence: int, refused: answers.Refusal, now: float) -> None:
        upload = self._upload
        if not upload.owns(sequence):
            return
        if refused.is_cut_short and upload.narrow():
            return
        if self._exchange.wire.is_unchecked and self._refusals < _REFUSALS and not refused.may_pass:
            self._refusals += 1  # it is repeated as if there had been no answer
            return
        if not (refused.may_pass and self._exchange.may_be_busy(now)):
            raise refused.as_error(f"the upload at offset {upload.wanted} of {upload.size}")
        upload.wait(now)
