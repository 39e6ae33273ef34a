"""What the answers to the questions of an identification say, and which question is next. Pure."""

from gatewayd.protocol.smp import answers, failures
from gatewayd.protocol.smp.facts import Facts
from gatewayd.protocol.smp.frames import Frame
from gatewayd.protocol.smp.permissions import Permissions
from gatewayd.protocol.smp.states import AFTER, State


class Identification:
    """The facts gathered so far. `image` is which of several images is updated."""

    def __init__(self, image: int, may: Permissions) -> None:
        self.facts = Facts()
        self.has_left_recovery = False
        self._image = image
        self._may = may

    def begin(self) -> None:
        """Forget the facts: the device may have restarted."""
        self.facts = Facts(image=self._image)

    def take(self, state: State, frame: Frame) -> State | None:
        """Take an answer; return which question is next, None if nothing is missing. Raises DeviceError."""
        facts = self.facts
        match state:
            case State.PARAMS:
                facts.buffers = answers.Buffers.of(frame) or facts.buffers
            case State.BOARD:
                facts.board = answers.board_name(frame)
            case State.BOOTLOADER:
                facts.mode = answers.bootloader_mode(frame)
            case State.SLOTS:
                return self._take_slots(frame)
            case _:
                facts.slot_size = answers.slot_size(frame, self._image)
        return AFTER.get(state)

    def _take_slots(self, frame: Frame) -> State | None:
        facts = self.facts
        facts.slots = answers.Slots.of(frame, self._image)
        facts.is_recovery = facts.board is None and not facts.slots.has_flags
        if not facts.is_recovery:
            return AFTER[State.SLOTS]
        if not self._may.leave_recovery:
            return None
        if not self.has_left_recovery:
            self.has_left_recovery = True
            return State.LEAVE
        if not self._may.use_recovery:
            raise failures.in_recovery()
        return None
