"""The mechanics of the gateway's side: one request or one flow under way, the clock, the speed, the events.

reactions.py decides what to send and what answers mean.
"""

import math
import random as random_module
from collections import deque
from collections.abc import Iterator
from enum import Enum

from gatewayd.protocol.rcp import failures
from gatewayd.protocol.rcp.flow import DataFlow  # noqa: TC001 - the package loads it anyway
from gatewayd.protocol.rcp.frames import Frame, FrameError
from gatewayd.protocol.rcp.framing import CRC_SIZE, wire_size
from gatewayd.protocol.rcp.packets import LONGEST_ANSWER, PACKETS_PER_S
from gatewayd.protocol.rcp.tlv_frames import Hello, Offer
from gatewayd.protocol.rcp.wire import Wire
from gatewayd.protocol.request import ASK_INTERVAL_S, ROUNDS, Request
from gatewayd.protocol.session import Console, Event, Failed, LineSpeed, Traffic

BITS_PER_BYTE = 10
_FIRST_ANSWER_S = 1.0  # at a raised speed, which then counts as failed
_KEEP_ALIVE_S = 1.0  # a device leaves a raised speed after 3 s of silence
_MAX_TURNAROUND_S = 1.0
_MAX_EVENTS = 64  # console lines are dropped beyond


class State(Enum):
    """The operation's state."""

    IDLE = "nothing is under way"
    HELLO = "asking who is there"
    BAUD = "agreeing on a speed"
    OFFER = "offering the image"
    DATA = "sending the image"
    FINISH = "the device has all bytes and verifies them"
    STAGED = "the device holds the image, verified"
    ACTIVATE = "asking the device to restart into the image"
    CONFIRM = "confirming the running image"

    __hash__ = object.__hash__  # each frame looks its state up, and Enum's own is Python


class Due(Enum):
    """What has fallen due."""

    FLOW = "the flow of DATA has acted: check whether it is complete or stalled"
    SILENCE = "nothing has answered the request"
    SILENCE_AT_SPEED = "nothing has answered HELLO at the raised speed"


_SESSIONLESS = {State.HELLO, State.BAUD, State.CONFIRM}


class Engine:
    """What is under way with one device.

    Attributes:
        wire: converts frames to bytes and back.
        events: for the caller, oldest first.
        state: the operation's state.
        session: the session's number.
        nonce: what the answer to the latest HELLO or CONFIRM must carry.
        request: the request under way; None in DATA, or when idle.
        flow: the flow of DATA, in state DATA.
        turnaround_s: how long device and link take to answer, as measured.
        complaint: the failure to report if something unusable came instead of INFO.
    """

    def __init__(
        self, gateway_id: str, *, base_baud: int, datagram: bool, random: random_module.Random
    ) -> None:
        self.traffic = Traffic()
        self.wire = Wire(self.traffic, datagram=datagram)
        self.events: deque[Event] = deque()
        self.state = State.IDLE
        self.session = 0
        self.nonce = 0
        self.request: Request[Frame] | None = None
        self.flow: DataFlow | None = None
        self.turnaround_s = 0.0
        self.complaint: Failed | None = None
        self._gateway_id = gateway_id
        self._baud = self._base_baud = base_baud
        self._random = random
        self._fragments: deque[bytes] = deque()  # of the current frame
        self._is_certain = False  # the current frame needs a write with response
        self._slow_down_at: float | None = None

    def decode(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes; anything else becomes an event or the complaint."""
        for found in self.wire.decode(data):
            if isinstance(found, Console):
                if len(self.events) < _MAX_EVENTS:
                    self.events.append(found)
            elif isinstance(found, FrameError):
                self.complaint = Failed(failures.not_understood(found))
            else:
                yield found

    def is_ours(self, frame: Frame) -> bool:
        """Whether a frame belongs to the current state's session."""
        own = 0 if self.state in _SESSIONLESS else self.session
        return getattr(frame, "session", 0) == own

    def measure(self, answer: Frame, now: float) -> None:
        """Measure, from an answer, how long device and link take."""
        if self.request is None or self.wire.packet is not None:  # the rate of datagrams is unknown
            return
        sample = self.request.turnaround_s(now, self._wire_s(answer))
        if sample is not None:
            self.turnaround_s += (min(sample, _MAX_TURNAROUND_S) - self.turnaround_s) / 2

    @property
    def needs_response(self) -> bool:
        """See TransferSession. A response confirms earlier writes too: only the last fragment needs one."""
        return self._is_certain and not self._fragments

    def set_max_datagram(self, size_bytes: int) -> None:
        """See TransferSession."""
        is_idle = self.flow is None and self.request is None
        self.wire.set_max_datagram(size_bytes, begins=is_idle)
        if is_idle:  # otherwise what is on its way stays as it is
            self._fragments.clear()
            self.turnaround_s = 0.0
        elif self.flow is not None and self.wire.packet is not None:
            self.flow.resize(self.wire.packet)

    @property
    def is_between_frames(self) -> bool:
        """Whether all of the current frame has been taken."""
        return not self._fragments

    def next_frame(self, now: float) -> Frame | None:
        """Return the frame that is due: of the flow, or the request (again)."""
        if self.flow is not None:
            return self.flow.next_frame(now)
        if self.request is None or not self.request.is_due(now):
            return None
        self.request.mark_sent(now)
        return self.request.frame

    def begin(self, frame: Frame) -> None:
        """Prepare a frame for `next_packet`."""
        self._fragments.extend(self.wire.encode(frame))
        self._is_certain = self.wire.packet is not None and isinstance(frame, Hello | Offer)

    def next_packet(self) -> bytes:
        """Take the next piece of the current frame: all of it, or a fragment."""
        return self._fragments.popleft()

    def next_deadline(self) -> float | None:
        """See TransferSession."""
        if self.flow is not None:
            return self.flow.deadline()
        if self.request is None:
            return None
        due = self.request.deadline()
        return due if self._slow_down_at is None else min(due, self._slow_down_at)

    def handle_timeout(self, now: float) -> Due | None:
        """Return what has fallen due."""
        if self.flow is not None:
            self.flow.handle_timeout(now)
            return Due.FLOW
        if self._slow_down_at is not None and now >= self._slow_down_at:
            return Due.SILENCE_AT_SPEED
        if self.request is not None and self.request.is_in_vain(now):
            return Due.SILENCE
        return None

    def ask(self, state: State, frame: Frame, now: float, rounds: int = ROUNDS) -> None:
        """Enter a state by sending a request."""
        self.state, self.flow, self._slow_down_at = state, None, None
        self.wire.listen()
        wire_s = self._wire_s(frame)
        self.request = Request(frame, now, wire_s=wire_s, turnaround_s=self.turnaround_s, rounds=rounds)

    def hello(self, now: float, patience_s: float, delay_s: float = 0.0) -> None:
        """Identify the device; keep asking for that long."""
        self.complaint = None
        self.wire.listen()
        self.state, self.flow = State.HELLO, None
        begins_at = now + delay_s
        self.request = self._patient_hello(begins_at, ASK_INTERVAL_S, begins_at + patience_s)
        self._slow_down_at = begins_at + _FIRST_ANSWER_S if self.is_fast else None

    def stay_staged(self, now: float) -> None:
        """Wait for the caller; keep the device at the raised speed."""
        self.state = State.STAGED
        keep_alive = self._patient_hello(now + _KEEP_ALIVE_S, _KEEP_ALIVE_S, math.inf)
        self.request = keep_alive if self.is_fast else None

    def _patient_hello(self, begins_at: float, interval_s: float, gives_up_at: float) -> Request[Frame]:
        self.nonce = self._random.getrandbits(32)
        hello = Hello(self.nonce, self._gateway_id)
        wire_s = self._wire_s(hello)
        if self.wire.packet is not None:  # an INFO may take seconds, and each HELLO brings another one
            wire_s += LONGEST_ANSWER / self.rate
        return Request.patient(
            hello, begins_at, wire_s=wire_s, interval_s=interval_s, gives_up_at=gives_up_at
        )

    def fall_idle(self) -> None:
        """End the operation; the line returns to the base speed."""
        self.state = State.IDLE
        self.flow = self.request = self._slow_down_at = None
        self.slow_down()

    @property
    def speed(self) -> int | None:
        """The line's baud; None on a datagram link."""
        return self._baud if self.wire.packet is None else None

    @property
    def is_fast(self) -> bool:
        """Whether the speed is raised."""
        return self._baud != self._base_baud

    def slow_down(self) -> None:
        """Go back to the base speed."""
        if self.is_fast:
            self.set_speed(self._base_baud)

    def set_speed(self, baud: int) -> None:
        """Request the caller to set the line's speed."""
        self._baud = baud
        self.events.append(LineSpeed(baud))

    @property
    def rate(self) -> float:
        """The link's rate in bytes per second: a line's by its speed, a radio's as assumed."""
        packet = self.wire.packet
        return self._baud / BITS_PER_BYTE if packet is None else packet * PACKETS_PER_S

    def _wire_s(self, frame: Frame) -> float:
        return wire_size(len(frame.to_bytes()) + CRC_SIZE) / self.rate

    def require(self, *states: State) -> None:
        """Raise RuntimeError in any other state: an operation out of order."""
        if self.state not in states:
            raise RuntimeError(f"not now: {self.state.value}")
