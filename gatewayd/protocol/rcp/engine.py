"""The mechanics of the gateway's side: one request or one flow under way, the clock, the speed, the events.

What is said and what answers mean is gateway.py's business.
"""

import math
import random as random_module
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeAlias

from gatewayd.protocol.rcp import failures
from gatewayd.protocol.rcp.flow import DataFlow
from gatewayd.protocol.rcp.frames import Data, Frame, FrameError
from gatewayd.protocol.rcp.framing import CRC_SIZE, wire_size
from gatewayd.protocol.rcp.packets import LONGEST_ANSWER, PACKETS_PER_S
from gatewayd.protocol.rcp.request import HELLO_INTERVAL_S, ROUNDS, Request
from gatewayd.protocol.rcp.tlv_frames import Hello, Offer
from gatewayd.protocol.rcp.wire import Wire
from gatewayd.protocol.session import Console, Event, Failed, LineSpeed, Traffic

BITS_PER_BYTE = 10
_FIRST_ANSWER_S = 1.0  # at a raised speed; then it is taken for failed
_KEEP_ALIVE_S = 1.0  # a device leaves a raised speed after 3 s of silence
_MAX_TURNAROUND_S = 1.0
_MAX_EVENTS = 64  # console lines are dropped beyond


class State(Enum):
    """What is true now."""

    IDLE = "nothing is under way"
    HELLO = "asking who is there"
    BAUD = "agreeing on a speed"
    OFFER = "offering the image"
    DATA = "sending the image"
    FINISH = "the device has all bytes and verifies them"
    STAGED = "the device holds the image, verified"
    ACTIVATE = "asking the device to restart into the image"
    CONFIRM = "confirming the running image"


_SESSIONLESS = {State.HELLO, State.BAUD, State.CONFIRM}
Answers: TypeAlias = Mapping[tuple[State, type[Frame]], Callable[[Any, float], None]]


class Engine(ABC):
    """What RcpGateway is built on."""

    def __init__(
        self, gateway_id: str, *, base_baud: int, datagram: bool, random: random_module.Random
    ) -> None:
        self.traffic = Traffic()
        self._gateway_id = gateway_id
        self._baud = self._base_baud = base_baud
        self._random = random
        self._wire = Wire(self.traffic, datagram=datagram)
        self._fragments: deque[bytes] = deque()  # of the frame begun
        self._is_certain = False  # the frame sent last goes by write with response
        self._events: deque[Event] = deque()
        self._state = State.IDLE
        self._session = 0
        self._nonce = 0
        self._request: Request | None = None
        self._flow: DataFlow | None = None
        self._turnaround_s = 0.0
        self._slow_down_at: float | None = None
        self._complaint: Failed | None = None  # about what came instead of INFO
        self._answers = self._table()

    @abstractmethod
    def _table(self) -> Answers:
        """Return what is done with a frame in a state; what is not in it is ignored."""

    @abstractmethod
    def _on_silence(self, now: float) -> None:
        """Nothing has answered the request."""

    @abstractmethod
    def _on_silence_at_speed(self, now: float) -> None:
        """Nothing has answered HELLO at the raised speed."""

    @abstractmethod
    def _look_at(self, flow: DataFlow, now: float) -> None:
        """Go on when all is sent, and when nothing moves."""

    @abstractmethod
    def _count(self, data: Data) -> None:
        """Count what goes out."""

    def receive_data(self, data: bytes, now: float) -> None:
        """See TransferSession."""
        for found in self._wire.decode(data):
            if isinstance(found, Console):
                if len(self._events) < _MAX_EVENTS:
                    self._events.append(found)
            elif isinstance(found, FrameError):
                self._complaint = Failed(failures.not_understood(found))
            else:
                self._take(found, now)

    @property
    def needs_response(self) -> bool:
        """See TransferSession. What went before has arrived, too, so a frame's last fragment is enough."""
        return self._is_certain and not self._fragments

    def set_max_datagram(self, size_bytes: int) -> None:
        """See TransferSession."""
        self._wire.set_max_datagram(size_bytes)
        self._fragments.clear()
        self._turnaround_s = 0.0

    def data_to_send(self, now: float) -> bytes:
        """See TransferSession."""
        if not self._fragments:
            frame = self._frame_to_send(now)
            if frame is None:
                return b""
            self._fragments.extend(self._wire.encode(frame))
            self._is_certain = self._wire.packet is not None and isinstance(frame, Hello | Offer)
        return self._fragments.popleft()

    def next_event(self) -> Event | None:
        """See TransferSession."""
        return self._events.popleft() if self._events else None

    def next_deadline(self) -> float | None:
        """See TransferSession."""
        if self._flow is not None:
            return self._flow.deadline()
        if self._request is None:
            return None
        due = self._request.deadline()
        return due if self._slow_down_at is None else min(due, self._slow_down_at)

    def handle_timeout(self, now: float) -> None:
        """See TransferSession."""
        if self._flow is not None:
            self._flow.handle_timeout(now)
            self._look_at(self._flow, now)
        elif self._slow_down_at is not None and now >= self._slow_down_at:
            self._on_silence_at_speed(now)
        elif self._request is not None and self._request.is_in_vain(now):
            self._on_silence(now)

    def _frame_to_send(self, now: float) -> Frame | None:
        if self._flow is not None:
            data = self._flow.next_frame(now)
            if data is not None:
                self._count(data)
            return data
        if self._request is None or not self._request.is_due(now):
            return None
        self._request.mark_sent(now)
        return self._request.frame

    def _take(self, frame: Frame, now: float) -> None:
        handle = self._answers.get((self._state, type(frame)))
        own = 0 if self._state in _SESSIONLESS else self._session
        if handle is None or getattr(frame, "session", 0) != own:
            return
        if self._request is not None and self._wire.packet is None:  # else the rate is not known
            sample = self._request.turnaround_s(now, self._wire_s(frame))
            if sample is not None:
                self._turnaround_s += (min(sample, _MAX_TURNAROUND_S) - self._turnaround_s) / 2
        handle(frame, now)

    def _ask(self, state: State, frame: Frame, now: float, rounds: int = ROUNDS) -> None:
        """Go to a state by asking something."""
        self._state, self._flow, self._slow_down_at = state, None, None
        self._wire.listen_anew()
        wire_s = self._wire_s(frame)
        self._request = Request(frame, now, wire_s=wire_s, turnaround_s=self._turnaround_s, rounds=rounds)

    def _hello(self, now: float, patience_s: float, delay_s: float = 0.0) -> None:
        """Ask who is there, for so long."""
        self._complaint = None
        self._wire.listen_anew()
        self._state, self._flow = State.HELLO, None
        begins_at = now + delay_s
        self._request = self._patient_hello(begins_at, HELLO_INTERVAL_S, begins_at + patience_s)
        self._slow_down_at = begins_at + _FIRST_ANSWER_S if self._is_fast else None

    def _stay_staged(self, now: float) -> None:
        """Wait for the caller's word; keep the device at the raised speed."""
        self._state = State.STAGED
        keep_alive = self._patient_hello(now + _KEEP_ALIVE_S, _KEEP_ALIVE_S, math.inf)
        self._request = keep_alive if self._is_fast else None

    def _patient_hello(self, begins_at: float, interval_s: float, gives_up_at: float) -> Request:
        self._nonce = self._random.getrandbits(32)
        hello = Hello(self._nonce, self._gateway_id)
        wire_s = self._wire_s(hello)
        if self._wire.packet is not None:  # an INFO may take seconds, and with each HELLO comes another one
            wire_s += LONGEST_ANSWER / self._rate
        return Request.patient(
            hello, begins_at, wire_s=wire_s, interval_s=interval_s, gives_up_at=gives_up_at
        )

    def _fall_idle(self) -> None:
        self._state = State.IDLE
        self._flow = self._request = self._slow_down_at = None
        self._slow_down()

    @property
    def _speed(self) -> int | None:
        return self._baud if self._wire.packet is None else None

    @property
    def _is_fast(self) -> bool:
        return self._baud != self._base_baud

    def _slow_down(self) -> None:
        if self._is_fast:
            self._set_speed(self._base_baud)

    def _set_speed(self, baud: int) -> None:
        self._baud = baud
        self._events.append(LineSpeed(baud))

    @property
    def _rate(self) -> float:
        """What the link carries, in bytes a second: a line as its speed says, a radio as is assumed."""
        packet = self._wire.packet
        return self._baud / BITS_PER_BYTE if packet is None else packet * PACKETS_PER_S

    def _wire_s(self, frame: Frame) -> float:
        return wire_size(len(frame.to_bytes()) + CRC_SIZE) / self._rate

    def _require(self, *states: State) -> None:
        if self._state not in states:
            raise RuntimeError(f"not now: {self._state.value}")
