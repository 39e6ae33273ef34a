"""How to react to the device's frames, and its silence: the rules of docs/protocol.md, section 10.

Frames are dispatched by (state, type); those not in the table are ignored. A setback in a transfer (the
device restarted, forgot the session, fell silent) leads back to HELLO, and from there through OFFER to
whatever offset the device reports; none is kept here. Setbacks are counted, and the counts restart only with
a new durable byte, so that every transfer ends.

The awkward case is the speed. Only during a transfer and in STAGED may it be raised; every other outcome
leaves it at base. Silence at the raised speed means that the device may be back at base, as it is after a
restart or 3 s without a frame. So the gateway goes back too, and repeats HELLO there for longer than that.
"""

import random as random_module
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gatewayd.errors import DeviceError, GatewaydError
from gatewayd.protocol import session
from gatewayd.protocol.pace import LEAST_DURABLE_BYTES, LEAST_DURABLE_S, PACE_S, DurableFloor
from gatewayd.protocol.rcp import failures, frames
from gatewayd.protocol.rcp.codes import ABOUT_HELLO, RcpCode, Remedy, remedy
from gatewayd.protocol.rcp.engine import Due, Engine, State
from gatewayd.protocol.rcp.flow import DataFlow
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.rcp.limits import Limits
from gatewayd.protocol.rcp.packets import SHORT_SESSIONS
from gatewayd.protocol.rcp.tlv_frames import PROTOCOL_VERSION, Confirmed, Info
from gatewayd.protocol.rcp.transfer import BAUD_FAILURES, Transfer
from gatewayd.protocol.rcp.wire import SHORTEST_ANSWER
from gatewayd.protocol.request import ASK_INTERVAL_S, ROUNDS
from gatewayd.protocol.silence import no_answer

_PATIENCE_S = 5.0  # a board that resets on open needs up to 3 s
_BUSY_MS = 60_000  # each; SHA-256 of 4 MiB takes that long on a 16 MHz M0
BUSY_SUM_S = 300.0
_BAUD_ROUNDS = 5  # outlast the second after which a device goes back to base
_BAUD_TOLERANCE = 0.015  # half of what a UART tolerates; the other half is the peer's
_BASE_AGAIN_S = 0.5  # after a second of silence at a raised speed: the device is surely back at base

_Answers: TypeAlias = Mapping[tuple[State, type[frames.Frame]], Callable[[Any, float], None]]


class Reactions:
    """Drives an engine by what is received.

    Args:
        engine: the mechanics.
        fast_baud: the speed to raise the line to; None: it is not raised.
        chunk: the most payload of one DATA.
        busy_s: how long the device may say BUSY without advancing.
        ack_floor_s: the least wait for an ACK; None: the link's default.
        random: picks session numbers.

    Attributes:
        waiting: frames in flight beyond what fills the line; None: the link's own number.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        fast_baud: int | None,
        chunk: int,
        busy_s: float,
        ack_floor_s: float | None,
        random: random_module.Random,
    ) -> None:
        self.info: RcpInfo | None = None
        self.transfer: Transfer | None = None
        self._engine = engine
        self._fast_baud = fast_baud
        self._chunk = chunk
        self._busy_s = busy_s
        self._ack_floor_s = ack_floor_s
        self.waiting: int | None = None
        self._random = random
        self._answers = self._table()

    def begin(self, image: session.Image, now: float) -> None:
        """Begin the transfer of an image."""
        least_bytes = max(LEAST_DURABLE_BYTES, self.known().erase_block)
        # A line at 300 baud may need longer for an erase block of 128 KiB; an erase may take all of busy_s.
        period_s = max(LEAST_DURABLE_S, 2 * self._busy_s, 4 * least_bytes / self._engine.rate)
        self.transfer = Transfer(image, DurableFloor(least_bytes, period_s, len(image.content)))
        self.approach(now)

    def take(self, frame: frames.Frame, now: float) -> None:
        """React to a frame."""
        if self._is_too_slow(now):
            self._fail(failures.too_slow(self.job().floor.period_s, self._what()))
            return
        handle = self._answers.get((self._engine.state, type(frame)))
        if handle is not None and self._engine.is_ours(frame):
            self._engine.measure(frame, now)
            handle(frame, now)

    def fall_due(self, due: Due | None, now: float) -> None:
        """React to what has fallen due."""
        match due:
            case Due.SILENCE:
                self._on_silence(now)
            case Due.SILENCE_AT_SPEED:
                self._on_silence_at_speed(now)
            case Due.FLOW if self._engine.flow is not None:
                self._look_at(self._engine.flow, now)

    def _table(self) -> _Answers:
        """Return the handler for each frame in each state; other frames are ignored."""
        asking = (State.BAUD, State.OFFER, State.DATA, State.FINISH, State.ACTIVATE, State.CONFIRM)
        transferring = (State.OFFER, State.DATA, State.FINISH)
        return {
            (State.HELLO, Info): self._on_info,
            (State.HELLO, frames.Error): self._on_hello_error,
            (State.BAUD, frames.BaudOk): self._on_baud_ok,
            (State.BAUD, frames.Aborted): self._on_aborted,
            (State.BAUD, frames.Error): self._on_baud_error,
            (State.OFFER, frames.Accept): self._on_accept,
            (State.OFFER, frames.HaveIt): self._on_have_it,
            (State.OFFER, frames.Refuse): self._on_refused,
            **{(state, frames.Error): self._on_refused for state in transferring},
            (State.DATA, frames.Ack): self._on_ack,
            (State.DATA, frames.Nak): self._on_ack,
            (State.FINISH, frames.Finished): self._on_finished,
            (State.ACTIVATE, frames.Activated): self._on_activated,
            (State.ACTIVATE, frames.Error): self._on_activate_error,
            (State.CONFIRM, Confirmed): self._on_confirmed,
            (State.CONFIRM, frames.Error): self._on_confirm_error,
            **{(state, frames.Busy): self._on_busy for state in asking},
            **{(state, frames.NotNow): self._on_not_now for state in asking},
        }

    def _on_silence(self, now: float) -> None:
        match self._engine.state:
            case State.BAUD:
                self.job().baud_failures += 1
                self._hello_again(now)
            case State.OFFER | State.FINISH:
                self._stall(now)
            case State.ACTIVATE:
                self._end(session.Activated(acknowledged=False))
            case State.HELLO if self._engine.complaint is not None:
                self._end(self._engine.complaint)
            case _:
                asked_at = now if self._engine.request is None else self._engine.request.moved_at
                heard = self._engine.wire.heard()
                self._fail(
                    no_answer(
                        self._engine.state.name,
                        now - asked_at,
                        self._engine.speed,
                        heard,
                        shortest_answer=SHORTEST_ANSWER,
                    )
                )

    def _on_busy(self, frame: frames.Busy, now: float) -> None:
        until = now + frame.ms / 1000
        waiting = self._engine.flow or self._engine.request
        if waiting is None:
            return
        if frame.ms > _BUSY_MS or until - waiting.moved_at > self._busy_s:
            self._fail(failures.stalled(f"the device says BUSY for too long in {self._what()}"))
        else:
            waiting.hold(until)

    def _on_not_now(self, frame: frames.NotNow, _now: float) -> None:
        self._end(session.Deferred(frame.seconds, frame.reason))

    # HELLO

    def _hello_again(self, now: float, delay_s: float = 0.0) -> None:
        """Identify the device again during a transfer; it may have just restarted."""
        self._engine.hello(now, _PATIENCE_S + self.known().boot_limit_s, delay_s)

    def _on_info(self, frame: Info, now: float) -> None:
        if frame.nonce != self._engine.nonce:
            return
        before, self.info = self.info, frame.device
        self._engine.wire.has_short_data = frame.device.can_short_data
        if not frame.protocol_min <= PROTOCOL_VERSION <= frame.protocol_max:
            self._fail(failures.other_protocol(frame.protocol_min, frame.protocol_max, PROTOCOL_VERSION))
        elif self.transfer is None or before is None:
            self._end(session.Identified(frame.device.common))
        elif failures.identity(before) != failures.identity(frame.device):
            self._fail(failures.device_changed(before, frame.device))
        else:
            self.transfer.hear_again(has_restarted=before.boot_id != frame.device.boot_id)
            self.approach(now)

    def _on_hello_error(self, frame: frames.Error, _now: float) -> None:
        if frame.code in ABOUT_HELLO:
            self._engine.complaint = session.Failed(failures.refusal(frame.code, "HELLO"))

    # The speed

    def approach(self, now: float) -> None:
        """Raise the speed, or make the offer, once the device is known."""
        wants_speed = self.known().can_set_baud and self.job().baud_failures < BAUD_FAILURES
        if self._fast_baud is not None and not self._engine.is_fast and wants_speed:
            self._engine.ask(State.BAUD, frames.SetBaud(0, self._fast_baud), now, _BAUD_ROUNDS)
        else:
            self._offer(now)

    def _on_baud_ok(self, frame: frames.BaudOk, now: float) -> None:
        if frame.baud != self._fast_baud:
            return
        if abs(frame.actual - frame.baud) > _BAUD_TOLERANCE * frame.baud:
            self.job().baud_failures = BAUD_FAILURES  # and the device returns to base by itself
        else:
            self._engine.set_speed(frame.baud)
        self._hello_again(now)

    def _on_baud_error(self, frame: frames.Error, now: float) -> None:
        job = self.job()
        if frame.code == RcpCode.BAD_STATE and not job.has_aborted:
            job.has_aborted = True  # an earlier session, perhaps from another run of gatewayd
            self._engine.ask(State.BAUD, frames.Abort(0, 0), now, _BAUD_ROUNDS)
        elif frame.code == RcpCode.RESTARTING:
            self._on_refused(frame, now)
        else:
            job.baud_failures = BAUD_FAILURES
            self._offer(now)

    def _on_aborted(self, _frame: frames.Aborted, now: float) -> None:
        if self._engine.request is not None and isinstance(self._engine.request.frame, frames.Abort):
            self.approach(now)

    def _on_silence_at_speed(self, now: float) -> None:
        self.job().baud_failures += 1
        self._engine.slow_down()
        self._hello_again(now, _BASE_AGAIN_S)

    # OFFER, DATA, FINISH

    def _offer(self, now: float) -> None:
        number = self._random.randrange(1, 255 if self._engine.wire.packet is None else SHORT_SESSIONS)
        self._engine.session = number + (number >= self._engine.session)  # not the one used last
        self._engine.ask(State.OFFER, self.job().offer(self._engine.session), now)

    def _on_accept(self, frame: frames.Accept, now: float) -> None:
        job = self.job()
        size, packet = len(job.image.content), self._engine.wire.packet
        if not job.has_prefix(frame.offset, frame.prefix_crc):
            self._begin_again(failures.prefix_mismatch(frame.offset, size), now)
            return
        job.accepted()
        job.floor.begin(frame.offset, now)
        try:
            flow = DataFlow(
                job.image.content,
                self._engine.session,
                Limits.of(self.known(), self._chunk, packet, self._ack_floor_s, self.waiting),
                offset=frame.offset,
                credit=frame.credit,
                rate=self._engine.rate,
                turnaround_s=self._engine.turnaround_s,
                now=now,
                is_cautious=job.has_stalled,
            )
        except DeviceError as error:
            self._fail(error)
            return
        self._engine.state, self._engine.request, self._engine.flow = State.DATA, None, flow
        self._engine.traffic.resumes += frame.offset > 0
        self._engine.events.append(session.TransferStarted(frame.offset, size))
        self._look_at(flow, now)

    def _on_have_it(self, frame: frames.HaveIt, _now: float) -> None:
        if frame.sha256 == self.job().image.sha256:
            self._end(session.AlreadyRunning())

    def _on_ack(self, frame: frames.Ack | frames.Nak, now: float) -> None:
        flow = self._engine.flow
        if flow is None:
            return
        try:
            has_advanced = flow.take(frame, now)
        except DeviceError as error:
            self._fail(error)
            return
        if has_advanced:
            self._report(flow, now)
        self._look_at(flow, now)

    def _report(self, flow: DataFlow, now: float) -> None:
        """Report the device's progress; only the latest report is kept for the caller."""
        self.job().advance(flow.durable)
        self.job().floor.note(flow.durable, now)
        if self._engine.events and isinstance(self._engine.events[-1], session.Progress):
            self._engine.events.pop()
        size = len(self.job().image.content)
        self._engine.events.append(session.Progress(flow.received, flow.durable, size))

    def _look_at(self, flow: DataFlow, now: float) -> None:
        if flow.is_complete:
            self._engine.ask(State.FINISH, frames.Finish(self._engine.session), now)
        elif flow.is_stalled:
            self._stall(now)

    def _on_finished(self, frame: frames.Finished, now: float) -> None:
        if frame.sha256 != self.job().image.sha256:
            self._begin_again(failures.refusal(RcpCode.DIGEST_MISMATCH, self._what()), now)
            return
        self._engine.stay_staged(now)
        self._engine.events.append(session.Staged(self.known().common))

    # Setbacks

    def _on_refused(self, frame: frames.Error | frames.Refuse, now: float) -> None:
        error = failures.refusal(frame.code, self._what())
        job = self.job()
        match remedy(frame.code):
            case Remedy.HELLO if frame.code != RcpCode.ON_TRIAL and job.may_go_on():
                self._hello_again(now, ASK_INTERVAL_S * (job.setbacks - 1))
            case Remedy.HELLO if frame.code != RcpCode.ON_TRIAL:
                self._fail(job.in_the_end(error))
            case Remedy.FROM_ZERO:
                self._begin_again(error, now)
            case _:
                self._fail(error)

    def _begin_again(self, error: GatewaydError, now: float) -> None:
        if self.job().may_begin_again():
            self._offer(now)
        else:
            self._fail(error)

    def _stall(self, now: float) -> None:
        job = self.job()
        if not job.may_stall(was_fast=self._engine.is_fast):
            lost = self._engine.flow.lost_frames() if self._engine.flow else ()
            error = failures.stalled(self._how_it_stalls(), lost)
            self._fail(job.in_the_end(error))
            return
        self._engine.slow_down()
        self._hello_again(now)

    def _is_too_slow(self, now: float) -> bool:
        """Whether the device hardly advances with the image; checked at each frame."""
        is_sending = self._engine.state in (State.OFFER, State.DATA)
        return is_sending and self.transfer is not None and self.transfer.floor.is_missed(now)

    # ACTIVATE, CONFIRM

    def _on_activated(self, _frame: frames.Activated, _now: float) -> None:
        self._end(session.Activated(acknowledged=True))

    def _on_activate_error(self, frame: frames.Error, _now: float) -> None:
        if frame.code == RcpCode.RESTARTING:
            self._end(session.Activated(acknowledged=True))
        elif frame.code in {RcpCode.NO_SESSION, RcpCode.OTHER_BOOT}:
            self._end(session.Activated(acknowledged=False))  # it has restarted, for this reason or another
        else:
            self._fail(failures.refusal(frame.code, self._what()))

    def _on_confirmed(self, frame: Confirmed, _now: float) -> None:
        if frame.nonce == self._engine.nonce:
            self._end(session.Confirmed())

    def _on_confirm_error(self, frame: frames.Error, _now: float) -> None:
        self._fail(failures.refusal(frame.code, self._what()))

    # Helpers

    def _fail(self, error: GatewaydError) -> None:
        self._end(session.Failed(error))

    def _end(self, outcome: session.Outcome) -> None:
        """End with any outcome but Staged; the line returns to the base speed."""
        self._engine.fall_idle()
        if isinstance(outcome, session.Failed | session.Activated):
            self.info = None
        self._engine.events.append(outcome)

    def _what(self) -> str:
        """Return what is asked of the device, for messages."""
        if self._engine.state is State.DATA and self._engine.flow is not None:
            return f"DATA at {self._engine.flow.received} of {len(self.job().image.content)} bytes"
        if self._engine.state is not State.OFFER:
            return self._engine.state.name
        image, slot = self.job().image, self.known().slot_size
        return f"OFFER of {image.version} ({len(image.content)} bytes, free slot {slot})"

    def _how_it_stalls(self) -> str:
        if self._engine.flow is not None and self._engine.flow.crawled is not None:
            crawled = self._engine.flow.crawled
            return f"only {crawled} bytes in the last {PACE_S:.0f} s of {self._what()}, three times"
        return f"no advance in {ROUNDS} rounds of {self._what()}, three times"

    def known(self) -> RcpInfo:
        """Return what the device reported about itself."""
        if self.info is None:
            raise RuntimeError("identify comes first")
        return self.info

    def job(self) -> Transfer:
        """Return the transfer under way."""
        if self.transfer is None:
            raise RuntimeError("there is no transfer")
        return self.transfer
