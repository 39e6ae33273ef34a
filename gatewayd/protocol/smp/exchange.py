"""One question under way: sent, repeated with the same sequence number, answered or given up."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from gatewayd.errors import LinkError
from gatewayd.protocol.request import FLOOR_S, ROUNDS, Request
from gatewayd.protocol.session import Traffic
from gatewayd.protocol.silence import no_answer
from gatewayd.protocol.smp.frames import HEADER_SIZE, Frame, Op
from gatewayd.protocol.smp.wire import Framing, Wire

_BITS_PER_BYTE = 10
_PACKETS_PER_S = 10.0  # assumed of a radio
_ASK_INTERVAL_S = 0.5  # while waiting for a device to answer at all
_ONCE_WAIT_S = 2.0  # for the answer to a request that is not repeated
_BUSY_PAUSE_S = 1.0
_SILENT_ROUNDS = 5  # where each comes after a long silence
_SEQUENCES = 256
_EMPTY_MAP = 1  # bytes; the shortest answer has no more after its header


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a device. `name` is for messages to people."""

    name: str
    op: Op
    group: int
    command: int
    payload: dict[str, Any] = field(default_factory=dict)


class Exchange:
    """See the module's text. `busy_s`: how long a device may report that it is busy.

    On a raw UART it is silent before a request that may follow an unfinished one (`Wire.silence_s`): its own,
    or that of a gateway which was there before.
    """

    def __init__(
        self, traffic: Traffic, framing: Framing, *, baud: int, datagram: bool, busy_s: float
    ) -> None:
        self.traffic = traffic
        self.wire = Wire(traffic, framing, datagram=datagram)
        self.turnaround_s: float | None = None  # of the link and the device together
        self._baud = baud
        self._busy_s = busy_s
        self._busy_since: float | None = None
        self._packets: deque[bytes] = deque()
        self._sequence = 0
        self._is_answered = False  # what was sent last
        self._forgets_at: float | None = None  # when the device drops it if it is unfinished; None: not known
        self._question: Question | None = None
        self._request: Request[Frame] | None = None
        self._asked_at = 0.0

    @property
    def deadline(self) -> float | None:
        """When the question is due again, or given up."""
        return None if self._request is None else self._request.deadline()

    @property
    def question_name(self) -> str:
        """The question in words."""
        return "SMP" if self._question is None else f"SMP {self._question.name}"

    @property
    def is_held(self) -> bool:
        """Whether the device has answered the question that it is busy, and nothing else."""
        return self._busy_since is not None

    def next_sequence(self) -> int:
        """Return the next frame's sequence number."""
        self._sequence = (self._sequence + 1) % _SEQUENCES
        return self._sequence

    def ask(self, question: Question, now: float, rounds: int = ROUNDS) -> None:
        """Repeat a question until it is answered, at most `rounds` times."""
        frame, begins_at = self._begin(question, now)
        self._request = Request(
            frame,
            begins_at,
            wire_s=self.wire_s(len(frame.to_bytes())),
            turnaround_s=self.turnaround_s or 0.0,
            rounds=min(rounds, _SILENT_ROUNDS) if self.wire.silence_s else rounds,
            floor_s=max(FLOOR_S, self.wire.silence_s),
        )

    def ask_once(self, question: Question, now: float) -> None:
        """Ask a question that must not be repeated."""
        frame, begins_at = self._begin(question, now)
        wire_s = self.wire_s(len(frame.to_bytes())) + _ONCE_WAIT_S
        self._request = Request(frame, begins_at, wire_s=wire_s, rounds=1)

    def ask_patiently(self, question: Question, begins_at: float, patience_s: float) -> None:
        """Ask at a steady interval for `patience_s`."""
        frame, begins_at = self._begin(question, begins_at)
        self._request = Request.patient(
            frame,
            begins_at,
            wire_s=self.wire_s(len(frame.to_bytes())),
            interval_s=max(_ASK_INTERVAL_S, self.wire.silence_s),
            gives_up_at=begins_at + patience_s,
        )

    def stop(self) -> None:
        """Drop the question, and the rest of any frame being sent."""
        self._request = self._question = self._busy_since = None
        self._packets.clear()

    def answers(self, frame: Frame, now: float) -> bool:
        """Whether a frame answers the question: by kind, group, command and sequence number."""
        if self._request is None:
            return False
        asked = self._request.frame
        expected = (asked.op + 1, asked.group, asked.command, asked.sequence)
        if (frame.op, frame.group, frame.command, frame.sequence) != expected:
            self.wire.heard.late += frame.is_answer
            return False
        sample = self._request.turnaround_s(now, self.wire_s(HEADER_SIZE))
        self.turnaround_s = self.turnaround_s if sample is None else sample
        return True

    def may_hold(self, now: float) -> bool:
        """Ask a busy device again a little later. False: it has been busy for too long."""
        if self._request is None or not self.may_be_busy(now):
            return False
        self._request.hold(now + _BUSY_PAUSE_S)
        return True

    def may_be_busy(self, now: float) -> bool:
        """Whether the device may still be busy."""
        since = self._busy_since = now if self._busy_since is None else self._busy_since
        return now - since <= self._busy_s

    def has_got_on(self) -> None:
        """Note that the device is no longer busy."""
        self._busy_since = None

    def is_in_vain(self, now: float) -> bool:
        """Whether the question has been repeated often and long enough to give up."""
        return self._request is not None and self._request.is_in_vain(now)

    def silence(self, now: float) -> LinkError:
        """Return the error for an unanswered question."""
        speed = self._baud if self.wire.packet is None else None
        shortest = self.wire.size(HEADER_SIZE + _EMPTY_MAP)
        return no_answer(
            self.question_name, now - self._asked_at, speed, self.wire.heard, shortest_answer=shortest
        )

    def due_frame(self, now: float) -> Frame | None:
        """Return the question's frame if it must be sent now."""
        if self._request is None or not self._request.is_due(now):
            return None
        if self._request.times_sent:
            self.wire.drop_unfinished()
        self._request.mark_sent(now)
        return self._request.frame

    def put(self, frame: Frame, now: float) -> None:
        """Queue a frame, cut into pieces that the link can carry."""
        self._is_answered = False
        self._forgets_at = now + self.wire_s(len(frame.to_bytes())) + self.wire.silence_s
        self._packets.extend(self.wire.encode(frame))

    def next_packet(self) -> bytes:
        """Return the next piece of the queued frames, or nothing."""
        return self._packets.popleft() if self._packets else b""

    def set_max_datagram(self, size_bytes: int) -> None:
        """Set how much a datagram link carries; what is on its way stays as it is."""
        is_idle = self._question is None and self._request is None
        self.wire.set_max_datagram(size_bytes, begins=is_idle)
        if is_idle:
            self._packets.clear()
            self.turnaround_s = None

    def wire_s(self, frame_size: int) -> float:
        """Return how long it takes to send a frame."""
        packet = self.wire.packet
        rate = self._baud / _BITS_PER_BYTE if packet is None else packet * _PACKETS_PER_S
        return self.wire.size(frame_size) / rate

    def clear_at(self, now: float) -> float:
        """Return when the device has no part of an earlier request any more, `now` at the earliest."""
        if self._is_answered or not self.wire.silence_s:
            return now
        return max(now, now + self.wire.silence_s if self._forgets_at is None else self._forgets_at)

    def note_answer(self, frame: Frame) -> None:
        """Note that the device has something of ours complete."""
        self._is_answered |= frame.is_answer and frame.sequence == self._sequence

    def _begin(self, question: Question, now: float) -> tuple[Frame, float]:
        """Return the question's frame, and when it may be sent."""
        self.stop()
        self.wire.listen_again()
        self.wire.drop_unfinished()
        self._question, self._asked_at = question, self.clear_at(now)
        sequence = self.next_sequence()
        frame = Frame(question.op, question.group, question.command, sequence, question.payload)
        return frame, self._asked_at
