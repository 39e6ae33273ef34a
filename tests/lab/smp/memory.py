"""A session and a virtual SMP device, joined by a line in memory, with a clock that only tests move."""

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gatewayd.protocol import session
from gatewayd.protocol.smp.gateway import SmpGateway
from gatewayd.protocol.smp.mcuboot import read_image
from gatewayd.protocol.steps import Step, Update
from gatewayd.simulator.line import Line, LineProfile
from gatewayd.simulator.smp.server import ServerProfile, SmpServer
from gatewayd.simulator.smp.slots import Slots

from .recipes import Recipe, make_image

BAUD = 115200
LINE = LineProfile(BAUD / 10, 0.002)
HANG = b"hangs forever"
_MOST_TURNS = 200_000
PATIENCE_S = 5.0


def firmware(patch: int, size: int = 20_000, *, hangs: bool = False, **changes: Any) -> bytes:
    """Return an application of version 1.0.`patch`."""
    payload = random.Random(patch).randbytes(size) + (HANG if hangs else b"")
    return make_image(Recipe((1, 0, patch, 0), payload, **changes))


def slots(content: bytes | None = None, **changes: Any) -> Slots:
    """Return a device's flash that runs version 1.0.0."""
    return Slots(content or firmware(0), hangs=lambda image: HANG in image, **changes)


def as_image(content: bytes) -> session.Image:
    """Return what a worker hands to a session."""
    image = read_image(content, verifies=False)
    return session.Image(content, hashlib.sha256(content).digest(), image.version, own_id=image.running_id)


@dataclass
class Lab:
    """See the module's text. `pass_on` may drop or change what either side says; '>' is to the device."""

    server: SmpServer
    session: SmpGateway
    line: LineProfile = LINE
    now: float = 0.0
    seed: int = 0  # of what the line spoils
    pass_on: Callable[[str, bytes], bytes] = lambda _way, data: data
    events: list[Any] = field(default_factory=list)
    to_device: Line = field(init=False)
    to_gateway: Line = field(init=False)

    def __post_init__(self) -> None:
        seeds = 2 * self.seed + 1, 2 * self.seed + 2
        self.to_device, self.to_gateway = (Line(self.line, random.Random(seed)) for seed in seeds)

    def run(self, start: Callable[[float], None]) -> Any:
        """Run an operation to its outcome."""
        start(self.now)
        return self.until(lambda: False)

    def until(self, is_enough: Callable[[], bool]) -> Any:
        """Go on until the outcome, or until something is true (None)."""
        for _ in range(_MOST_TURNS):
            while (event := self.session.next_event()) is not None:
                self.events.append(event)
                if isinstance(event, session.OUTCOMES):
                    return event
            if is_enough():
                return None
            self.turn()
        raise AssertionError("it goes on without an end")

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        ends = self.now + seconds
        while self.now < ends:
            self.turn(ends)

    def turn(self, at_most: float = float("inf")) -> None:
        """Do what is due now, and go to the next time at which something is."""
        deadline = self.session.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.session.handle_timeout(self.now)
        while self.to_device.room(self.now) and (data := self.session.data_to_send(self.now)):
            self.to_device.put(self.pass_on(">", data), self.now, BAUD)
        for data, _ in self.to_device.arrived(self.now):
            self.server.receive_data(data, self.now)
        if answer := self.pass_on("<", self.server.data_to_send(self.now)):
            self.to_gateway.put(answer, self.now, BAUD)
        for data, _ in self.to_gateway.arrived(self.now):
            self.session.receive_data(data, self.now)
        self.now = max(self.now + 1e-4, min(at_most, self._next()))

    def _next(self) -> float:
        due = [self.server.next_deadline(), self.session.next_deadline()]
        due += [self.to_device.next_arrival(), self.to_gateway.next_arrival(), self.to_device.free_at()]
        return min((at for at in due if at is not None and self.now < at < math.inf), default=self.now + 0.1)


def make_lab(
    flash: Slots | None = None,
    profile: ServerProfile | None = None,
    line: LineProfile = LINE,
    seed: int = 0,
    **options: Any,
) -> Lab:
    """Join a device and a session."""
    profile = profile or ServerProfile()
    session = SmpGateway(baud=BAUD, framing=profile.framing, boot_s=2, **options)
    lab = Lab(SmpServer(flash or slots(), profile, 0.0), session, line, seed=seed)
    lab.wait(1.0)
    return lab


class Killed(Exception):  # noqa: N818 - no error: what a test asked for
    """The gateway's process is gone."""


@dataclass
class Worker:
    """Leads an update as gatewayd's worker does; what it stores survives `Killed`."""

    lab: Lab
    content: bytes
    is_activating: bool = False
    is_armed: bool = False
    has_begun: bool = False
    steps: list[Step] = field(default_factory=list)
    on_step: Callable[[str], None] = lambda _name: None

    @property
    def update(self) -> Update:
        """What is stored."""
        image = as_image(self.content)
        known = image.id if self.has_begun else None
        return Update(known, image.version, is_activating=self.is_activating, is_armed=self.is_armed)

    def restart_gateway(self) -> None:
        """A new process: another session on the same line."""
        self.lab.session = SmpGateway(baud=BAUD, framing=self.lab.server.profile.framing, boot_s=2)

    def run(self) -> Any:
        """Return the step that ends it, or the failure."""
        for _ in range(8):
            outcome = self._operation("identify", lambda now: self.lab.session.identify(now, PATIENCE_S))
            if not isinstance(outcome, session.Identified):
                return outcome
            step = self.lab.session.next_step(self.update)
            self.steps.append(step)
            if step in (Step.SUCCEED, Step.FAIL_REVERTED, Step.FAIL_REJECTED, Step.AWAIT_TRIAL_END):
                return step
            failure = self._take(step)
            if failure is not None:
                return failure
        raise AssertionError(f"it does not settle: {self.steps}")

    def _take(self, step: Step) -> Any:
        session = self.lab.session
        if step is Step.CONFIRM:
            return self._failure("confirm", lambda now: session.confirm(as_image(self.content), now))
        if step is Step.TRANSFER:
            self.has_begun, self.is_activating, self.is_armed = True, False, False
            failure = self._failure("transfer", lambda now: session.transfer(as_image(self.content), now))
            if failure is not None:
                return failure
            self.is_activating = True
            failure = self._failure("arm", session.arm)
            if failure is not None:
                return failure
            self.is_armed = True
        failure = self._failure("activate", lambda now: session.activate(600, now))
        if failure is None:
            self._await_restart()
        return failure

    def _await_restart(self) -> None:
        self.lab.wait(2.0)
        for _ in range(20):
            outcome = self._operation("identify", lambda now: self.lab.session.identify(now, PATIENCE_S))
            if isinstance(outcome, session.Identified) and self.lab.session.has_restarted(self.update):
                return
            self.lab.wait(0.2)

    def _failure(self, name: str, start: Callable[[float], None]) -> Any:
        outcome = self._operation(name, start)
        return outcome if hasattr(outcome, "error") else None

    def _operation(self, name: str, start: Callable[[float], None]) -> Any:
        self.on_step(name)
        return self.lab.run(start)
