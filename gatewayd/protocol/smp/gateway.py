"""The gateway's side of SMP: a TransferSession over console lines, a raw UART or Bluetooth's packets.

An operation goes through states. Each state but UPLOAD has one question, repeated with the same sequence
number until an answer or silence leads on:

    identify   PARAMS, BOARD, BOOTLOADER, SLOTS, SIZES      (LEAVE, when serial recovery answers)
    transfer   [UPLOAD, CHECK] -> STAGED                    (nothing complete is uploaded again)
    arm        TEST -> ARMED                                (stored by the caller, before the restart)
    activate   RESET
    confirm    LOOK, CONFIRM, LOOK

What an answer does is looked up by state. In UPLOAD late answers count, too, since they still tell the offset
(upload.py); elsewhere an answer must be to the question.

Awkward cases. A restart is not asked for twice when its answer is lost: a bootloader that waits for an update
takes any request as a reason to stay, so silence of `boot_s` follows, and the next identification tells. TEST
and CONFIRM may have succeeded although the repeated question is refused, so the image state has the last
word. And what a device lists is not always what it is willing to start: Zephyr 4.4 with swap using offset
refuses to test an image that was uploaded before the last boot. Then `arm` uploads it once more.
"""

from collections import deque
from typing import TYPE_CHECKING

from gatewayd.errors import DeviceError, FirmwareError, GatewaydError
from gatewayd.protocol import session
from gatewayd.protocol.request import ROUNDS
from gatewayd.protocol.smp import activation, answers, failures
from gatewayd.protocol.smp.errors import MalformedError
from gatewayd.protocol.smp.exchange import Exchange, Question
from gatewayd.protocol.smp.facts import Facts, slot_id
from gatewayd.protocol.smp.frames import Frame, Group, ImageCommand, Op
from gatewayd.protocol.smp.mcuboot import McubootImage, read_image
from gatewayd.protocol.smp.states import AFTER, IMAGE_STATE, OPTIONAL, QUESTIONS, State
from gatewayd.protocol.smp.upload import Plan, Upload
from gatewayd.protocol.smp.wire import Framing
from gatewayd.protocol.steps import Step, Update

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatewayd.protocol.image import ImageId

_OPTIONAL_ROUNDS = 3  # some servers leave out what they do not know
BUSY_SUM_S = 300.0
_MAX_EVENTS = 64  # console lines are dropped beyond


class SmpGateway:
    """A TransferSession; see the module's text.

    `baud` is the UART's, and nothing to a `datagram` link; `boot_s` the silence after a restart; `image`
    which of several images is updated; `recovery` whether serial recovery may be used to bring a device back;
    `leaves_recovery` whether `identify` may restart a device to get it out of there;
    `busy_s` how long the device may say that it is busy.
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
        recovery: bool = False,
        leaves_recovery: bool = True,
        busy_s: float = BUSY_SUM_S,
    ) -> None:
        self.traffic = session.Traffic()
        self._boot_s = boot_s
        self._image_number = image
        self._allows_recovery = recovery
        self._leaves_recovery = leaves_recovery
        self._exchange = Exchange(self.traffic, framing, baud=baud, datagram=datagram, busy_s=busy_s)
        self._events: deque[session.Event] = deque()
        self._state = State.IDLE
        self._patience_s = 0.0
        self._has_left_recovery = False
        self._facts: Facts | None = None
        self._gathered = Facts()
        self._image: McubootImage | None = None
        self._offered: session.Image | None = None
        self._has_uploaded = False  # what it offered, in this session
        self._is_arming = False
        self._upload: Upload | None = None
        self._doubtful: Upload | None = None  # waits for the image state
        self._confirmed: ImageId | None = None
        self._refused: GatewaydError | None = None  # of a question that may have succeeded all the same
        self._answers: dict[State, Callable[[Frame, float], None]] = {
            State.PARAMS: self._on_params,
            State.BOARD: self._on_board,
            State.BOOTLOADER: self._on_bootloader,
            State.SLOTS: self._on_slots,
            State.SIZES: self._on_sizes,
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
        self._has_left_recovery = False
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
        if self._known().is_recovery:
            self._finish_arming()  # it starts what lies in its first slot
            return
        self._is_arming = True
        self._test(now)

    def _test(self, now: float) -> None:
        payload = {"hash": self._the_image().id.digest, "confirm": False}
        self._refused = None
        self._state = State.TEST
        self._exchange.ask(Question("test", Op.WRITE, Group.IMAGE, ImageCommand.STATE, payload), now)

    def activate(self, trial_s: int, now: float) -> None:
        """See TransferSession. A trial lasts until the next restart, however long that takes."""
        del trial_s
        self._require(State.IDLE, State.ARMED)
        self._known()
        self._ask_once(State.RESET, now)

    def confirm(self, image: session.Image, now: float) -> None:
        """See TransferSession. Without a hash, once the active one has been compared."""
        self._require(State.IDLE)
        self._known()
        self._confirmed, self._refused = image.id, None
        self._ask(State.LOOK, now)

    def next_step(self, update: Update) -> Step:
        """See TransferSession."""
        return activation.next_step(update, self._known())

    def has_restarted(self, update: Update) -> bool:
        """See TransferSession."""
        return activation.has_restarted(update, self._known())

    def receive_data(self, data: bytes, now: float) -> None:
        """See TransferSession."""
        for found in self._exchange.wire.decode(data):
            if isinstance(found, session.Console):
                if len(self._events) < _MAX_EVENTS:
                    self._events.append(found)
            elif isinstance(found, Frame):
                self._take(found, now)

    def data_to_send(self, now: float) -> bytes:
        """See TransferSession."""
        packet = self._exchange.next_packet()
        if packet:
            return packet
        due = self._exchange.due_frame(now)
        frame = due if self._upload is None else self._upload_frame(self._upload, now)
        if frame is not None:
            self._exchange.put(frame)
        return self._exchange.next_packet()

    def next_event(self) -> session.Event | None:
        """See TransferSession."""
        return self._events.popleft() if self._events else None

    def next_deadline(self) -> float | None:
        """See TransferSession."""
        return self._exchange.deadline if self._upload is None else self._upload.deadline()

    def handle_timeout(self, now: float) -> None:
        """See TransferSession."""
        if self._upload is not None:
            self._on_upload_timeout(self._upload, now)
        elif self._exchange.is_in_vain(now):
            self._on_silence(now)

    # -- identify

    def _seek(self, begins_at: float) -> None:
        self._gathered = Facts(image=self._image_number)
        self._state = State.PARAMS
        self._exchange.ask_patiently(QUESTIONS[State.PARAMS], begins_at, self._patience_s)

    def _on_params(self, frame: Frame, now: float) -> None:
        self._gathered.buffers = answers.Buffers.of(frame) or self._gathered.buffers
        self._next_question(now)

    def _on_board(self, frame: Frame, now: float) -> None:
        self._gathered.board = answers.board_name(frame)
        self._next_question(now)

    def _on_bootloader(self, frame: Frame, now: float) -> None:
        self._gathered.mode = answers.bootloader_mode(frame)
        self._next_question(now)

    def _on_slots(self, frame: Frame, now: float) -> None:
        gathered = self._gathered
        gathered.slots = answers.Slots.of(frame).of_image(self._image_number)
        gathered.is_recovery = gathered.board is None and not gathered.slots.has_flags
        if not gathered.is_recovery:
            self._next_question(now)
        elif not self._leaves_recovery:
            self._identified()
        elif not self._has_left_recovery:
            self._has_left_recovery = True
            self._ask_once(State.LEAVE, now)
        elif self._allows_recovery:
            self._identified()
        else:
            self._fail(failures.in_recovery())

    def _on_sizes(self, frame: Frame, _now: float) -> None:
        self._gathered.slot_size = answers.slot_size(frame, self._image_number)
        self._identified()

    def _on_left(self, _frame: Frame, now: float) -> None:
        self._seek(now + self._boot_s)

    def _next_question(self, now: float) -> None:
        following = AFTER.get(self._state)
        if following is None:
            self._identified()
        else:
            self._ask(following, now, _OPTIONAL_ROUNDS if following in OPTIONAL else ROUNDS)

    def _identified(self) -> None:
        self._facts = self._gathered
        self._end(session.Identified(self._info()))

    def _info(self) -> session.DeviceInfo:
        return self._known().as_info(self._boot_s)

    # -- transfer

    def _begin_upload(self, image: session.Image, now: float) -> None:
        exchange, buffers = self._exchange, self._known().buffers
        plan = Plan(
            memoryview(image.content),
            image.sha256,
            self._image_number,
            room=exchange.wire.room(buffers.size),
            window=max(1, buffers.count - 1),
            wire_s=exchange.wire_s,
        )
        exchange.stop()
        exchange.wire.listen_again()
        self._state = State.UPLOAD
        self._upload = Upload(plan, now, exchange.turnaround_s)

    def _upload_frame(self, upload: Upload, now: float) -> Frame | None:
        if not upload.may_send(now):
            return None
        sequence = self._exchange.next_sequence()
        payload = upload.next_request(sequence, now)
        self.traffic.image_bytes_sent += len(payload["data"])
        self.traffic.image_bytes_repeated += upload.repeated
        return Frame(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, sequence, payload)

    def _take_upload_answer(self, upload: Upload, frame: Frame, now: float) -> None:
        refused = answers.refusal(frame)
        offset = answers.offset_of(frame)
        if refused is not None:
            self._on_upload_refused(upload, frame.sequence, refused, now)
        elif offset is not None:
            self._on_offset(upload, frame.sequence, offset, now)
            if frame.payload.get("match") is False and self._upload is not None:
                self._fail(failures.digest_mismatch("says that its hash does not match"))
            elif (upload.is_complete or upload.is_in_doubt) and self._upload is not None:
                self._end_upload(upload)
                self._doubtful = None if upload.is_complete else upload
                self._ask(State.CHECK, now)

    def _on_offset(self, upload: Upload, sequence: int, offset: int, now: float) -> None:
        starts = upload.starts
        try:
            has_advanced = upload.take(sequence, offset, now)
        except DeviceError as error:
            self._fail(error)
            return
        if upload.starts > starts:
            self.traffic.resumes += upload.start > 0
            self._events.append(session.TransferStarted(upload.start, upload.size))
        if has_advanced:
            self._exchange.has_got_on()
            self._report(upload)

    def _report(self, upload: Upload) -> None:
        """Tell how far the device is; only the latest is kept for the caller."""
        if self._events and isinstance(self._events[-1], session.Progress):
            self._events.pop()
        self._events.append(session.Progress(upload.wanted, upload.wanted, upload.size))

    def _on_upload_refused(self, upload: Upload, sequence: int, refused: answers.Refusal, now: float) -> None:
        if not upload.owns(sequence):
            return
        if refused.may_pass and self._exchange.may_be_busy(now):
            upload.wait(now)
        else:
            self._fail(refused.as_error(f"the upload at offset {upload.wanted} of {upload.size}"))

    def _on_upload_timeout(self, upload: Upload, now: float) -> None:
        self._exchange.wire.drop_unfinished()
        try:
            upload.handle_timeout(now)
        except DeviceError as error:
            self._fail(error)

    def _end_upload(self, upload: Upload) -> None:
        self._has_uploaded |= upload.is_complete
        self._exchange.turnaround_s = upload.turnaround_s
        self._upload = None

    def _on_check(self, frame: Frame, now: float) -> None:
        slots = answers.Slots.of(frame).of_image(self._image_number)
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
            self._fail(failures.digest_mismatch("took all bytes and does not list the image"))

    def _stage(self) -> None:
        self._exchange.stop()
        self._state = State.STAGED
        self._events.append(session.Staged(self._info()))

    # -- arm, activate, confirm

    def _on_test(self, frame: Frame, _now: float) -> None:
        slots = answers.Slots.of(frame).of_image(self._image_number)
        slot = slots.holding(self._the_image().id.digest)
        if slot is not None and (slot.is_pending or slot.is_permanent):
            self._known().slots = slots
            self._finish_arming()
        else:
            self._fail(self._refused or failures.not_pending())

    def _finish_arming(self) -> None:
        self._exchange.stop()
        self._state, self._is_arming = State.ARMED, False
        self._events.append(session.Armed())

    def _on_reset(self, _frame: Frame, _now: float) -> None:
        self._end(session.Activated(acknowledged=True, quiet_s=self._boot_s))

    def _on_look(self, frame: Frame, now: float) -> None:
        active = answers.Slots.of(frame).of_image(self._image_number).active
        if active is None or slot_id(active) != self._confirmed:
            self._fail(failures.not_running())
        elif active.is_confirmed:
            self._end(session.Confirmed())
        elif self._refused is not None:
            self._fail(self._refused)
        else:
            self._ask(State.CONFIRM, now)

    def _on_confirm(self, _frame: Frame, now: float) -> None:
        self._refused = failures.not_confirmed()
        self._ask(State.LOOK, now)

    # -- questions

    def _ask(self, state: State, now: float, rounds: int = ROUNDS) -> None:
        self._state = state
        self._exchange.ask(QUESTIONS[state], now, rounds)

    def _ask_once(self, state: State, now: float) -> None:
        self._state = state
        self._exchange.ask_once(QUESTIONS[state], now)

    def _take(self, frame: Frame, now: float) -> None:
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
        except MalformedError as error:
            self._fail(error)

    def _on_refused(self, refused: answers.Refusal, now: float) -> None:
        state = self._state
        if refused.is_busy and self._exchange.may_hold(now):
            return
        if state in OPTIONAL or (state is State.PARAMS and refused.is_unsupported):
            self._next_question(now)
        elif state is State.LEAVE:
            self._fail(failures.in_recovery())
        elif state is State.CONFIRM:
            self._refused = refused.as_error("the confirmation")
            self._ask(State.LOOK, now)
        elif state is State.TEST and refused.is_about_image and self._offered and not self._has_uploaded:
            self._begin_upload(self._offered, now)  # what it lists is not what it starts
        elif state is State.TEST and self._refused is None:
            self._refused = refused.as_error("the trial of the image")
            self._exchange.ask(IMAGE_STATE, now)  # it may be pending all the same
        else:
            self._fail(refused.as_error(state.name))

    def _on_silence(self, now: float) -> None:
        state = self._state
        if state in OPTIONAL:
            self._next_question(now)
        elif state is State.LEAVE:
            self._seek(now + self._boot_s)
        elif state is State.RESET:
            self._end(session.Activated(acknowledged=False, quiet_s=self._boot_s))
        else:
            self._fail(self._exchange.silence(now))

    # -- small things

    def _fail(self, error: GatewaydError) -> None:
        self._end(session.Failed(error))

    def _end(self, outcome: session.Outcome) -> None:
        """Every outcome but Staged and Armed. After a failure or a restart, `identify` comes first."""
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
