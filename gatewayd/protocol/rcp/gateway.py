"""The gateway's side of a session: HELLO to CONFIRM (docs/protocol.md, sections 3 to 10).

Theory of operation. One operation runs at a time and passes through states; each state says one thing and waits for few
answers. What is said is a `Repeater` (all states but DATA) or the `Flow` (DATA). Answers are looked up by state and frame in
`_ANSWERS`; what is not there is ignored, so nothing a peer sends can raise.

The device owns the offset. Whatever goes wrong in a transfer (the device has restarted, has hung, has another session) the way
back is the same: HELLO, and when INFO comes, OFFER. `_stalls` and `_comebacks` bound how often that is done without a new
durable byte. HELLO is used in several places, so it carries what to do on INFO (`_then`) and on silence (`_silent`).

The line's speed is raised for a transfer and until ACTIVATED or the outcome, and for nothing else: whoever speaks to a device
first, after a restart of either side, does so at the base speed. After a `LineSpeed` event nothing is sent until it was taken.
"""

from enum import Enum

MAX_FRAME_TAKEN = 512  # the longest INFO has 380
HELLO_INTERVAL_S = 0.25
PATIENCE_S = 5.0  # a board that resets on open needs up to 3
CONTROL_FLOOR_S = 0.2
CONTROL_LONGEST_S = 1.0
STALLS = 3
COMEBACKS = 8
BAUD_FAILURES = 2
BAUD_TOLERANCE = 0.015  # half of what a UART stands, the other half is the peer's
NEW_SPEED_PATIENCE_S = 1.0
BACK_TO_BASE_S = 0.5  # after those: 1.5 s from the switch, by when the device is at base
KEEP_ALIVE_S = 1.0  # a device leaves a raised speed after 3 s of silence
MAX_CONSOLE_EVENTS = 64
BITS_PER_BYTE = 10  # on a UART
GATEWAY_ID_SIZE = 64


class State(Enum):
    """What the gateway is waiting for."""

    IDLE = "nothing is under way"
    HELLO = "HELLO was said; INFO is awaited"
    BAUD = "the device was asked to change the speed"
    OFFER = "the image was offered"
    DATA = "bytes are on their way"
    FINISH = "the device has all bytes and verifies them"
    STAGED = "the device holds the verified image; the caller has the word"
    ACTIVATE = "the device was told to restart into the image"
    CONFIRM = "the device was told that its image is good"
