"""The states of a session, and what is asked in each."""

from enum import Enum

from gatewayd.protocol.smp.answers import Slot
from gatewayd.protocol.smp.exchange import Question
from gatewayd.protocol.smp.frames import Group, ImageCommand, Op, OsCommand


class State(Enum):
    """The operation's state."""

    IDLE = "nothing is under way"
    PARAMS = "asking who is there, and what its buffers hold"
    BOARD = "asking for the board's name"
    BOOTLOADER = "asking for the bootloader's mode"
    SLOTS = "asking which images it holds"
    SIZES = "asking how large an image may be"
    LEAVE = "asking serial recovery to start the application"
    UPLOAD = "sending the image"
    CHECK = "asking whether it lists the image"
    STAGED = "the device holds the image"
    TEST = "asking it to try the image at its next start"
    ARMED = "the image is tried at the next start"
    RESET = "asking it to restart"
    LOOK = "asking whether it runs the image"
    CONFIRM = "confirming the running image"


IMAGE_STATE = Question("image state", Op.READ, Group.IMAGE, ImageCommand.STATE)
RESET = Question("reset", Op.WRITE, Group.OS, OsCommand.RESET)
QUESTIONS = {
    State.PARAMS: Question("parameters", Op.READ, Group.OS, OsCommand.PARAMS),
    State.BOARD: Question("OS info", Op.READ, Group.OS, OsCommand.INFO, {"format": "i"}),
    State.BOOTLOADER: Question(
        "bootloader info", Op.READ, Group.OS, OsCommand.BOOTLOADER_INFO, {"query": "mode"}
    ),
    State.SLOTS: IMAGE_STATE,
    State.SIZES: Question("slot info", Op.READ, Group.IMAGE, ImageCommand.SLOT_INFO),
    State.CHECK: IMAGE_STATE,
    State.LOOK: IMAGE_STATE,
}
AFTER = {
    State.PARAMS: State.BOARD,
    State.BOARD: State.BOOTLOADER,
    State.BOOTLOADER: State.SLOTS,
    State.SLOTS: State.SIZES,
}
OPTIONAL = frozenset({State.BOARD, State.BOOTLOADER, State.SIZES})


def test_of(image_hash: bytes) -> Question:
    """Return what asks for a trial of an image."""
    payload = {"hash": image_hash, "confirm": False}
    return Question("test", Op.WRITE, Group.IMAGE, ImageCommand.STATE, payload)


def confirmation_of(active: Slot) -> Question:
    """Return what confirms the image that runs.

    Without a hash a server confirms its own image, the first one; of the others it needs the hash.
    """
    named = {"hash": active.hash} if active.image else {}
    return Question("confirm", Op.WRITE, Group.IMAGE, ImageCommand.STATE, {**named, "confirm": True})
