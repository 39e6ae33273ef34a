"""A transfer session and a device, joined in memory by two lines and one clock that only the lab moves.

`Lab` does what delivery/pump.py and delivery/attempt.py do with a session, in virtual time. It is a referee,
too. Whatever a test is about, it raises AssertionError when

- an operation does not end in exactly one outcome of its own, in bounded virtual time;
- a side spins: wants to act again and again while no time passes;
- the gateway hands out more than one frame a call, or sends DATA beyond the credit or the window.
"""

import hashlib
import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from gatewayd.codes import Again, meaning
from gatewayd.errors import DeviceError
from gatewayd.jobs.model import Job
from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.session import (
    OUTCOMES,
    Activated,
    AlreadyRunning,
    Confirmed,
    Deferred,
    DeviceInfo,
    Event,
    Failed,
    Identified,
    Image,
    LineSpeed,
    Outcome,
    Staged,
    TransferSession,
    TransferStarted,
)
from gatewayd.protocol.steps import Step
from lab.rcp.devices import Device
from lab.rcp.line import Faults, Wire
from lab.rcp.radio import Airtime, Radio, Reader
from lab.rcp.referee import Referee

NEW_VERSION = "1.0.1"
PATIENCE_S = 5.0
RETRY_S = 5.0
LIMIT_S = 1200.0  # for one operation, in virtual time: three stalls and two BUSY sums fit
SPIN = 2000  # what one instant may hold; a window of frames and their answers is 100

Kind = TypeVar("Kind")


def make_image(size: int, seed: int = 1) -> Image:
    content = random.Random(seed).randbytes(size)
    return Image(content, hashlib.sha256(content).digest(), NEW_VERSION)


class GatewayKilled(Exception):  # noqa: N818 - an event that a test asked for
    """The gateway's process ended in the middle of an operation."""


class Ended(Exception):  # noqa: N818 - not an error
    """An attempt ended before the update did."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def rcp_gateway(
    rng: random.Random, *, base_baud: int = 115200, transfer_baud: int | None = None
) -> TransferSession:
    return RcpGateway("lab", base_baud=base_baud, transfer_baud=transfer_baud, random=rng)


def packet_gateway(rng: random.Random) -> TransferSession:
    return RcpGateway("lab", datagram=True, random=rng)


class Lab:
    """See the module's text. `seen`: every frame that either side sent; `events`: what the session said.

    With `packet`, what a datagram carries, the line is a radio.
    """

    def __init__(
        self,
        device: Device,
        make_session: Callable[[random.Random], TransferSession] = rcp_gateway,
        *,
        baud: int = 115200,
        rate_bytes_per_s: float | None = None,  # None: as the speed says
        latency_s: float = 0.0,
        buffer: float = 0.0,  # bytes the gateway's adapter takes before they leave
        timer_s: float = 0.0,  # and how long it keeps what comes back
        faults: Faults | None = None,
        seed: int = 0,
        packet: int | None = None,
        airtime: Airtime = Airtime(),  # noqa: B008 - frozen
    ) -> None:
        self.device = device
        self.now = 0.0
        self.seen: list[frames.Frame] = []
        self.events: list[tuple[float, Event]] = []
        self.losing: Callable[[frames.Frame], bool] = lambda _frame: False
        self.job = Job(1, "pump-1", 1, "", "1.0.0", NEW_VERSION, JobState.QUEUED, "", "", 1, 1)
        self._rng = random.Random(seed)
        self._rate, self._latency_s = rate_bytes_per_s, latency_s
        self._buffer, self._timer_s = buffer, timer_s
        self._base_baud = baud
        self._packet, self._airtime = packet, airtime
        self._make_session = make_session
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.set_faults(faults or Faults())
        self.restart_gateway()

    def set_faults(self, faults: Faults) -> None:
        """From now on the lines are like this; what was under way is lost."""
        self.to_device: Wire | Radio = Wire(self._rate, self._latency_s, faults, self._rng, self._buffer)
        self.to_gateway: Wire | Radio = Wire(
            self._rate, self._latency_s, faults, self._rng, timer_s=self._timer_s
        )
        if self._packet is not None:
            self.to_device, self.to_gateway = (Radio(self._airtime, self._rng) for _ in range(2))

    def restart_gateway(self, packet: int | None = None) -> None:
        """Begin with a new session, at the base speed; on a radio with a new connection, of other packets."""
        # Never the same nonces and session numbers again, as in life.
        self.session = self._make_session(random.Random(self._rng.random()))
        if self._packet is not None:
            self._packet = packet or self._packet
            self.session.set_max_datagram(self._packet)
            self.device.connect(self._packet)
            self.set_faults(Faults())
        self._readers = Reader(self._packet), Reader(self._packet)
        self.baud = self._base_baud
        self._switch_to: int | None = None
        self._outcome: Outcome | None = None
        self._killed = False
        self._referee = Referee(self._packet)

    def kill_gateway(self) -> None:
        self._killed = True

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in `seconds`, while an operation runs."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._numbers), action))

    def say(self, data: bytes) -> None:
        """Have the session hear this now."""
        self._referee.delivers(data)
        self.session.receive_data(data, self.now)

    # What was seen

    def count(self, kind: type[frames.Frame]) -> int:
        """How many frames of a kind were sent."""
        return sum(isinstance(frame, kind) for frame in self.seen)

    @property
    def payload_sent(self) -> int:
        """How many bytes of image were sent, again or for the first time, by whatever session."""
        return sum(len(frame.payload) for frame in self.seen if isinstance(frame, frames.Data))

    @property
    def starts(self) -> list[int]:
        """From where each transfer began or went on."""
        return [event.offset for _, event in self.events if isinstance(event, TransferStarted)]

    @property
    def speeds(self) -> list[int]:
        """Every change of speed."""
        return [event.baud for _, event in self.events if isinstance(event, LineSpeed)]

    # One operation

    def identify(self, patience_s: float = PATIENCE_S) -> Outcome:
        self.session.identify(self.now, patience_s)
        return self.run_until_outcome(Identified)

    def transfer(self, image: Image) -> Outcome:
        self.session.transfer(image, self.now)
        return self.run_until_outcome(Staged, AlreadyRunning)

    def activate(self, trial_s: int = 600) -> Outcome:
        self.session.activate(trial_s, self.now)
        return self.run_until_outcome(Activated)

    def confirm(self, image: Image) -> Outcome:
        self.session.confirm(image, self.now)
        return self.run_until_outcome(Confirmed)

    def run_until_outcome(self, *expected: type[Outcome]) -> Outcome:
        """Run the operation under way. Raises GatewayKilled."""
        self.run_until(lambda: self._outcome is not None)
        outcome = self._outcome
        assert outcome is not None
        assert isinstance(outcome, (*expected, Deferred, Failed)), f"{outcome}, expected {expected}"
        return outcome

    def run_until_durable(self, size: int) -> None:
        """Run until the device has said that this many bytes are durable."""
        self.run_until(
            lambda: any(isinstance(said, frames.Ack) and said.durable >= size for said in self.seen)
        )

    def run_until_sent(self, kind: type[frames.Frame], count: int = 1) -> frames.Frame:
        """Run until either side has sent `count` more frames of a kind; return the last."""
        begin = len(self.seen)

        def found() -> list[frames.Frame]:
            return [frame for frame in self.seen[begin:] if isinstance(frame, kind)]

        self.run_until(lambda: len(found()) >= count)
        return found()[-1]

    # A whole update

    def update(self, image: Image, attempts: int = 1) -> Outcome:
        """Lead the device to the image as the worker does; Identified when it runs it, confirmed."""
        outcome: Outcome | None = None
        for _ in range(attempts):
            try:
                return Identified(self._attempt(image))
            except Ended as ended:
                outcome = ended.outcome
                if isinstance(outcome, Failed) and meaning(outcome.error.code).again is Again.NEVER:
                    return outcome
            except GatewayKilled:
                outcome = outcome or Failed(DeviceError("the gateway was killed", code="killed"))
            self.pass_time(outcome.seconds if isinstance(outcome, Deferred) else RETRY_S)
            self.restart_gateway()
        assert outcome is not None
        return outcome

    def pass_time(self, seconds: float) -> None:
        """Let the device live on while nobody speaks to it."""
        end = self.now + seconds
        self.at(seconds, lambda: None)
        self.run_until(lambda: self.now >= end, with_gateway=False)

    def _attempt(self, image: Image) -> DeviceInfo:
        info = _expect(self.identify(), Identified).info
        for _ in range(6):
            match self.session.next_step(self.job.update):
                case Step.SUCCEED:
                    return info
                case Step.TRANSFER:
                    info = self._bring(image, info)
                case Step.SECOND_TRY:
                    info = self._bring(replace(image, second_try=True), info)
                case Step.AWAIT_RESTART:
                    info = self._await_restart()
                case Step.CONFIRM:
                    _expect(self.confirm(image), Confirmed)
                    info = _expect(self.identify(), Identified).info
                case Step.AWAIT_TRIAL_END:
                    raise Ended(Failed(DeviceError("another image is on trial", code="on_trial")))
                case Step.FAIL_VERSION | Step.FAIL_REVERTED as step:
                    code = "reverted" if step is Step.FAIL_REVERTED else "version_mismatch"
                    raise Ended(Failed(DeviceError("the image was given up", code=code)))
        raise AssertionError(f"does not settle: {info}")

    def _bring(self, image: Image, info: DeviceInfo) -> DeviceInfo:
        sha256 = image.sha256.hex()
        self.job = replace(self.job, state=JobState.TRANSFERRING, image_sha256=sha256, boot_id=info.boot_id)
        outcome = self.transfer(image)
        if isinstance(outcome, AlreadyRunning):
            return _expect(self.identify(), Identified).info
        staged = _expect(outcome, Staged)
        self.job = replace(self.job, state=JobState.ACTIVATING, boot_id=staged.info.boot_id)
        _expect(self.activate(), Activated)
        return self._await_restart()

    def _await_restart(self) -> DeviceInfo:
        end = self.now + 12.0
        while True:
            info = _expect(self.identify(12.0), Identified).info
            if self.session.has_restarted(self.job.update):
                return info
            if self.now >= end:
                raise Ended(Failed(DeviceError("the device does not restart", code="activate_ignored")))
            self.pass_time(0.2)

    # The clockwork

    def run_until(self, done: Callable[[], bool], *, with_gateway: bool = True) -> None:
        """Let things happen in their order. Raises GatewayKilled."""
        limit, happened, self._outcome = self.now + LIMIT_S, 0, None
        while not done():
            assert self._outcome is None, f"{self._outcome} comes first"
            if self._killed and with_gateway:
                raise GatewayKilled
            # All of them, whatever the first does: no side may starve the other.
            acts = [self._serve_device(), with_gateway and self._serve_gateway(), self._deliver(with_gateway)]
            happened = happened + 1 if any(acts) else 0
            assert happened < SPIN, f"somebody spins at {self.now} s; last: {self.seen[-3:]}"
            if not happened:
                self._advance(with_gateway=with_gateway)
                assert self.now < limit, f"still under way after {LIMIT_S} s; last: {self.seen[-3:]}"

    def _deliver(self, with_gateway: bool) -> bool:
        heard = [(self.device, *piece, self.device.baud) for piece in self.to_device.arrived(self.now)]
        for end, data, sent_at, heard_at in heard:
            end.receive_data(data if sent_at == heard_at else self._rng.randbytes(len(data)), self.now)
        is_heard = not with_gateway or self.now >= self.session.rest_until()
        answers = self.to_gateway.arrived(self.now) if is_heard else []
        for data, sent_at in answers if with_gateway else ():
            data = data if sent_at == self.baud else self._rng.randbytes(len(data))  # noqa: PLW2901
            self.say(data)
        return bool(heard or answers)

    def _serve_device(self) -> bool:
        due = self.device.next_deadline()
        is_due = due is not None and due <= self.now
        if is_due:
            self.device.handle_timeout(self.now)
        if self.now < self.to_gateway.free_at:
            return is_due
        baud = self.device.baud
        wire = self.device.data_to_send(self.now)
        self._send(wire, self.to_gateway, baud, self._readers[0])
        return is_due or bool(wire)

    def _serve_gateway(self) -> bool:
        if self.now < self.to_device.free_at:
            return False  # as Conversation, which waits until the link has taken a frame
        if self._switch_to is not None:
            self.baud, self._switch_to = self._switch_to, None
            return True
        due = self.session.next_deadline()
        is_due = due is not None and due <= self.now
        if is_due:
            self.session.handle_timeout(self.now)
        self._take_events()
        if self._outcome is not None or self._switch_to is not None:
            return True
        wire = self.session.data_to_send(self.now)
        self._send(wire, self.to_device, self.baud, self._readers[1])
        return is_due or bool(wire)

    def _send(self, wire: bytes, line: Wire | Radio, baud: int, reader: Reader) -> None:
        if not wire:
            return
        contents = reader.contents(wire, self._referee.received)
        assert self._packet is not None or (wire.count(0) == 2 and contents), f"not one frame: {wire.hex()}"
        is_lost = False
        for content in contents:  # of a fragment none
            assert isinstance(content, bytes), content
            frame = frames.decode(content)
            self._referee.sends(frame)
            self.seen.append(frame)
            is_lost = self.losing(frame)
        if not is_lost:
            line.put(wire, self.now, baud)

    def _take_events(self) -> None:
        """Take events up to an outcome, or to a change of speed, which has to be made first."""
        while (event := self.session.next_event()) is not None:
            self.events.append((self.now, event))
            if isinstance(event, LineSpeed):
                self._switch_to = event.baud
                return
            if isinstance(event, OUTCOMES):
                self._outcome = event
                return

    def _advance(self, *, with_gateway: bool) -> None:
        due = [
            _or_never(self.device.next_deadline()),
            self.to_device.next_arrival(),
            max(self.to_gateway.next_arrival(), self.session.rest_until()),
            *(line.free_at for line in (self.to_device, self.to_gateway) if line.free_at > self.now),
        ]
        if with_gateway and self.now >= self.to_device.free_at:
            due.append(_or_never(self.session.next_deadline()))
        if self._agenda:
            due.append(self._agenda[0][0])
        then = min(due)
        assert then < math.inf, f"nothing will ever happen again; last: {self.seen[-3:]}"
        self.now = max(self.now, then)
        while self._agenda and self._agenda[0][0] <= self.now:
            heapq.heappop(self._agenda)[2]()


def _expect(outcome: Outcome, kind: type[Kind]) -> Kind:
    if not isinstance(outcome, kind):
        raise Ended(outcome)
    return outcome


def _or_never(at: float | None) -> float:
    return math.inf if at is None else at
