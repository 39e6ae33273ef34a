"""The gateway's side of SMP: a TransferSession over console lines, a raw UART or Bluetooth's packets.

An operation goes through states. Each state but UPLOAD has one question, repeated with the same sequence
number until an answer or silence leads on:

    identify   PARAMS, BOARD, BOOTLOADER, SLOTS, SIZES      (LEAVE, if serial recovery answers)
    transfer   [UPLOAD, CHECK] -> STAGED                    (nothing complete is uploaded again)
    arm        TEST -> ARMED                                (stored by the caller, before the restart)
    activate   RESET
    confirm    LOOK, CONFIRM, LOOK

Answers are handled by state. In UPLOAD late answers count too, since they still give the offset (upload.py);
in other states only an answer to the current question counts. identification.py decides what an answer to
one of the first five means and what is asked after it.

Awkward cases. A restart is not requested twice if its answer is lost: a bootloader that waits for an update
stays there on any request. So nothing is sent for `boot_s`, and the next identification shows the result.
TEST and CONFIRM may have succeeded although the repeated question is refused, so the image state decides. And
a device may list an image that it refuses to start: Zephyr 4.4 with swap using offset refuses to test an
image that was uploaded before the last boot. Then `arm` uploads it once more.
"""

import math
from collections import deque
from typing import TYPE_CHECKING

from gatewayd.errors import DeviceError, FirmwareError, GatewaydError
from gatewayd.protocol import session
from gatewayd.protocol.request import ROUNDS
from gatewayd.protocol.smp import activation, answers, failures, states
from gatewayd.protocol.smp.errors import MalformedError
from gatewayd.protocol.smp.exchange import Exchange
from gatewayd.protocol.smp.facts import Facts, slot_id
from gatewayd.protocol.smp.framed_upload import FramedUpload
from gatewayd.protocol.smp.frames import Frame, Group, ImageCommand, Op
from gatewayd.protocol.smp.identification import Identification
from gatewayd.protocol.smp.mcuboot import McubootImage, read_image
from gatewayd.protocol.smp.permissions import ORDINARY, Permissions
from gatewayd.protocol.smp.states import AFTER, IMAGE_STATE, OPTIONAL, QUESTIONS, State
from gatewayd.protocol.smp.wire import Framing
from gatewayd.protocol.steps import Step, Update

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatewayd.protocol.image import ImageId

_OPTIONAL_ROUNDS = 3  # some servers do not answer requests that they do not support
BUSY_SUM_S = 300.0
_MAX_EVENTS = 64  # console lines are dropped beyond


class SmpGateway:
    """A TransferSession; see the module's text.

    `baud` is the UART's, and ignored on a `datagram` link; `boot_s` is the silence after a restart; `image`
    which of several images is updated; `busy_s` how long the device may report that it is busy.
    """

    arms_first = True
    needs_response = False  # every request has an answer of its own

    def __init__(
        self,
        *,
        baud: int = 115200,
        framing: Framing = Framing.CONSOLE,
        datagram: bool = False,
        boot_s: int = 60,
        image: int = 0,
        busy_s: float = BUSY_SUM_S,
        may: Permissions = ORDINARY,
    ) -> None:
        self.traffic = session.Traffic()
        self.quiet_s = boot_s
        self._image_number = image
        self._may = may
        self._identification = Identification(image, may)
        self._exchange = Exchange(self.traffic, framing, baud=baud, datagram=datagram, busy_s=busy_s)
        self._events: deque[session.Event] = deque()
        self._state = State.IDLE
        self._patience_s = 0.0
        self._facts: Facts | None = None
        self._image: McubootImage | None = None
        self._offered: session.Image | None = None
        self._has_uploaded = False  # the offered image
        self._uploads = 0  # complete ones
        self._is_arming = False
        self._upload: FramedUpload | None = None
        self._doubtful: FramedUpload | None = None  # waits for the image state
        self._confirmed: ImageId | None = None
        self._refused: GatewaydError | None = None  # of a question that may have succeeded anyway
        self._answers: dict[State, Callable[[Frame, float], None]] = {
            **dict.fromkeys((State.PARAMS, *AFTER.values()), self._on_fact),
            State.LEAVE: self._on_left,
            State.CHECK: self._on_check,
            State.TEST: self._on_test,
            State.RESET: self._on_reset,
            State.LOOK: self._on_look,
            State.CONFIRM: self._on_confirm,
        }

    # -- TransferSession

    def set_max_datagram(self, size_bytes: int) -> None:
        """See TransferSession."""
        self._exchange.set_max_datagram(size_bytes)

    def identify(self, now: float, patience_s: float) -> None:
        """See TransferSession."""
        self._require(State.IDLE, State.STAGED, State.ARMED)
        self._facts = self._image = None
        self._patience_s = patience_s
        self._identification.has_left_recovery = False
        self._seek(now)

    def transfer(self, image: session.Image, now: float) -> None:
        """See TransferSession."""
        self._require(State.IDLE)
        facts, active = self._known(), self._known().active
        self._offered, self._has_uploaded = image, False
        try:
            self._image = found = read_image(image.content)
        except FirmwareError as error:
            self._end(session.Failed(error))
            return
        if active is not None and slot_id(active) == found.running_id:
            self._end(session.AlreadyRunning())
        elif facts.slots.holding(found.id.digest) is not None and not facts.is_recovery:
            self._stage()
        elif active is not None and not active.is_confirmed:
            self._fail(failures.on_trial(active.version))
        else:
            self._begin_upload(image, now)

    def arm(self, now: float) -> None:
        """See TransferSession."""
        self._require(State.STAGED)
        self._is_arming = True
        if self._known().is_recovery:
            self._finish_arming()  # it starts the image in its first slot
        else:
            self._test(now)

    def _test(self, now: float) -> None:
        self._refused, self._state = None, State.TEST
        self._exchange.ask(states.test_of(self._the_image().id.digest), now)

    def activate(self, trial_s: int, now: float) -> None:
        """See TransferSession. A trial lasts until the next restart, however long that takes."""
        del trial_s
        self._require(State.IDLE, State.ARMED)
        self._known()
        self._state = State.RESET
        self._exchange.ask_once(states.RESET, now)

    def confirm(self, image: session.Image, now: float) -> None:
        """See TransferSession. Sent after comparing the hash of the active image."""
        self._require(State.IDLE)
        self._known()
        self._confirmed, self._refused = image.id, None
        self._ask(State.LOOK, now)

    def next_step(self, update: Update) -> Step:
        """See TransferSession."""
        step = activation.next_step(update, self._known())
        is_doubtful = self._exchange.wire.is_unchecked and self._uploads == 1
        return Step.TRANSFER if step is Step.FAIL_REJECTED and is_doubtful else step

    def has_restarted(self, update: Update) -> bool:
        """See TransferSession."""
        return activation.has_restarted(update, self._known())

    def receive_data(self, data: bytes, now: float) -> None:
        """See TransferSession."""
        for found in self._exchange.wire.decode(data):
            if isinstance(found, Frame):
                self._take(found, now)
            elif isinstance(found, session.Console) and len(self._events) < _MAX_EVENTS:
                self._events.append(found)

    def data_to_send(self, now: float) -> bytes:
        """See TransferSession."""
        packet = self._exchange.next_packet()
        if packet:
            return packet
        upload = self._upload
        frame = self._exchange.due_frame(now) if upload is None else upload.next_frame(now)
        if frame is not None:
            self._exchange.put(frame, now)
        return self._exchange.next_packet()

    def next_event(self) -> session.Event | None:
        """See TransferSession."""
        return self._events.popleft() if self._events else None

    def next_deadline(self) -> float | None:
        """See TransferSession."""
        return self._exchange.deadline if self._upload is None else self._upload.deadline()

    def rest_until(self) -> float:
        """See TransferSession. Each answer is waited for."""
        return -math.inf

    def handle_timeout(self, now: float) -> None:
        """See TransferSession."""
        if self._upload is not None:
            try:
                self._upload.handle_timeout(now)
            except DeviceError as error:
                self._fail(error)
        elif self._exchange.is_in_vain(now):
            self._on_silence(now)

    # -- identify

    def _seek(self, begins_at: float) -> None:
        self._identification.begin()
        self._state = State.PARAMS
        self._exchange.ask_patiently(QUESTIONS[State.PARAMS], begins_at, self._patience_s)

    def _on_fact(self, frame: Frame, now: float) -> None:
        self._ask_for_more(self._identification.take(self._state, frame), now)

    def _ask_for_more(self, following: State | None, now: float) -> None:
        if following is None:
            self._facts = self._identification.facts
            self._end(session.Identified(self._facts.as_info(self.quiet_s)))
        elif following is State.LEAVE:
            self._state = State.LEAVE
            self._exchange.ask_once(states.RESET, now)
        else:
            self._ask(following, now, _OPTIONAL_ROUNDS if following in OPTIONAL else ROUNDS)

    def _on_left(self, _frame: Frame, now: float) -> None:
        self._seek(now + self.quiet_s)

    # -- transfer

    def _begin_upload(self, image: session.Image, now: float) -> None:
        self._exchange.stop()
        self._exchange.wire.listen_again()
        self._state = State.UPLOAD
        self._upload = FramedUpload(image, self._known(), self._exchange, self._events, now)

    def _take_upload_answer(self, upload: FramedUpload, frame: Frame, now: float) -> None:
        try:
            is_over = upload.take(frame, now)
        except GatewaydError as error:
            self._fail(error)
            return
        if is_over:
            self._end_upload(upload)
            self._doubtful = None if upload.is_complete else upload
            self._ask(State.CHECK, now)

    def _end_upload(self, upload: FramedUpload) -> None:
        self._has_uploaded |= upload.is_complete
        self._uploads += upload.is_complete
        self._exchange.turnaround_s = upload.turnaround_s
        self._upload = None

    def _on_check(self, frame: Frame, now: float) -> None:
        slots = answers.Slots.of(frame, self._image_number)
        facts, wanted = self._known(), self._the_image().id.digest
        facts.slots = slots
        is_listed = any(slot.hash == wanted for slot in slots.all)
        if is_listed and self._is_arming:
            self._test(now)
        elif is_listed or (facts.is_recovery and all(slot.hash is None for slot in slots.all)):
            self._stage()
        elif self._doubtful is not None:
            self._doubtful.begin_again(now)
            self._exchange.stop()
            self._state, self._upload = State.UPLOAD, self._doubtful
        else:
            self._fail(failures.digest_mismatch("took all bytes but does not list the image"))

    def _stage(self) -> None:
        self._exchange.stop()
        self._state = State.STAGED
        self._events.append(session.Staged(self._known().as_info(self.quiet_s)))

    # -- arm, activate, confirm

    def _on_test(self, frame: Frame, now: float) -> None:
        if frame.op is Op.WRITE_ANSWER and "images" not in frame.payload:
            self._exchange.ask(IMAGE_STATE, now)  # it agrees, and does not say to what
            return
        slots = answers.Slots.of(frame, self._image_number)
        slot = slots.holding(self._the_image().id.digest)
        if slot is None or not (slot.is_pending or slot.is_permanent):
            self._fail(self._refused or failures.not_pending())
            return
        self._known().slots = slots
        if slot.is_permanent:  # although only a trial was asked for
            self._arm_without_trial()
        else:
            self._finish_arming()

    def _arm_without_trial(self) -> None:
        if self._may.start_without_trial:
            self._finish_arming()
        else:
            self._fail(failures.no_trial())

    def _finish_arming(self) -> None:
        self._exchange.stop()
        self._state, self._is_arming = State.ARMED, False
        self._events.append(session.Armed())

    def _on_reset(self, _frame: Frame, _now: float) -> None:
        self._end(session.Activated(acknowledged=True, quiet_s=self.quiet_s))

    def _on_look(self, frame: Frame, now: float) -> None:
        active = answers.Slots.of(frame, self._image_number).active
        if active is None or slot_id(active) != self._confirmed:
            self._fail(failures.not_running())
        elif active.is_confirmed:
            self._end(session.Confirmed())
        elif self._refused is not None:
            self._fail(self._refused)
        else:
            self._state = State.CONFIRM
            self._exchange.ask(states.confirmation_of(active), now)

    def _on_confirm(self, _frame: Frame, now: float) -> None:
        self._refused = failures.not_confirmed()
        self._ask(State.LOOK, now)

    # -- questions

    def _ask(self, state: State, now: float, rounds: int = ROUNDS) -> None:
        self._state = state
        self._exchange.ask(QUESTIONS[state], now, rounds)

    def _take(self, frame: Frame, now: float) -> None:
        self._exchange.note_answer(frame)
        if self._upload is not None:
            if answers.is_of(frame, Group.IMAGE, ImageCommand.UPLOAD):
                self._take_upload_answer(self._upload, frame, now)
            return
        if not self._exchange.answers(frame, now):
            return
        refused = answers.refusal(frame)
        try:
            if refused is None:
                self._answers[self._state](frame, now)
            else:
                self._on_refused(refused, now)
        except DeviceError as error:
            if not (self._exchange.wire.is_unchecked and isinstance(error, MalformedError)):
                self._fail(error)

    def _on_refused(self, refused: answers.Refusal, now: float) -> None:
        state = self._state
        if refused.is_busy and self._exchange.may_hold(now):
            return
        if state in OPTIONAL or (state is State.PARAMS and not refused.is_busy):
            self._ask_for_more(AFTER.get(state), now)
        elif state is State.LEAVE:
            self._fail(failures.in_recovery())
        elif state is State.CONFIRM:
            self._refused = refused.as_error("the confirmation")
            self._ask(State.LOOK, now)
        elif state is State.TEST and refused.is_about_image and self._offered and not self._has_uploaded:
            self._begin_upload(self._offered, now)  # it lists the image but refuses to start it
        elif state is State.TEST and refused.is_unsupported:
            self._arm_without_trial()  # it starts the newest image by itself
        elif state is State.TEST and self._refused is None:
            self._refused = refused.as_error("the trial of the image")
            self._exchange.ask(IMAGE_STATE, now)  # it may be pending anyway
        else:
            self._fail(refused.as_error(self._exchange.question_name))

    def _on_silence(self, now: float) -> None:
        state = self._state
        if state in OPTIONAL:
            self._ask_for_more(AFTER.get(state), now)
        elif state is State.LEAVE:
            self._seek(now + self.quiet_s)
        elif state is State.RESET:
            self._end(session.Activated(acknowledged=False, quiet_s=self.quiet_s))
        else:
            self._fail(failures.busy() if self._exchange.is_held else self._exchange.silence(now))

    # -- helpers

    def _fail(self, error: GatewaydError) -> None:
        self._end(session.Failed(error))

    def _end(self, outcome: session.Outcome) -> None:
        """End with any outcome but Staged or Armed. After a failure or a restart, `identify` comes first."""
        if self._upload is not None:
            self._end_upload(self._upload)
        if isinstance(outcome, session.Failed | session.Activated):
            self._facts = None
        self._state, self._is_arming = State.IDLE, False
        self._exchange.stop()
        self._events.append(outcome)

    def _known(self) -> Facts:
        if self._facts is None:
            raise RuntimeError("identify comes first")
        return self._facts

    def _the_image(self) -> McubootImage:
        if self._image is None:
            raise RuntimeError("there is no transfer")
        return self._image

    def _require(self, *states: State) -> None:
        if self._state not in states:
            raise RuntimeError(f"not now: {self._state.value}")
