"""The gateway's side of RCP: a TransferSession over a stream or datagrams (docs/protocol.md, section 10).

One operation is under way at a time and goes through states; each state except DATA has one request, which is
repeated until an answer or silence leads on (reactions.py):

    identify   HELLO
    transfer   [BAUD, HELLO,] OFFER, DATA, FINISH -> STAGED
    activate   ACTIVATE
    confirm    CONFIRM

engine.py has the mechanics: what is under way, when it is sent again, the speed.
"""

import math
import random as random_module

from gatewayd.protocol import session
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.activation import has_restarted, next_step
from gatewayd.protocol.rcp.engine import Engine, State
from gatewayd.protocol.rcp.reactions import BUSY_SUM_S, Reactions
from gatewayd.protocol.rcp.tlv_frames import Confirm
from gatewayd.protocol.steps import Step, Update


class RcpGateway:
    """A TransferSession; see the module's text. `chunk` is the most payload of one DATA.

    A `datagram` link has no speed, and ignores the bauds. `busy_s`: how long the device may say BUSY without
    making progress; `ack_floor_s`: the least wait for an ACK; None: the link's default.
    """

    arms_first = False
    quiet_s = 0.0

    def __init__(
        self,
        gateway_id: str,
        *,
        base_baud: int = 115200,
        transfer_baud: int | None = None,
        chunk: int = 1024,
        datagram: bool = False,
        busy_s: float = BUSY_SUM_S,
        ack_floor_s: float | None = None,
        random: random_module.Random,
    ) -> None:
        self._engine = Engine(gateway_id, base_baud=base_baud, datagram=datagram, random=random)
        self.traffic = self._engine.traffic
        self._random = random
        self._reactions = Reactions(
            self._engine,
            fast_baud=None if datagram or transfer_baud == base_baud else transfer_baud,
            chunk=chunk,
            busy_s=busy_s,
            ack_floor_s=ack_floor_s,
            random=random,
        )

    def identify(self, now: float, patience_s: float) -> None:
        """See TransferSession. At the base speed."""
        self._engine.require(State.IDLE, State.STAGED)
        self._engine.slow_down()
        self._reactions.info = self._reactions.transfer = None
        self._engine.hello(now, patience_s)

    def transfer(self, image: session.Image, now: float) -> None:
        """See TransferSession."""
        self._engine.require(State.IDLE)
        self._reactions.begin(image, now)

    def activate(self, trial_s: int, now: float) -> None:
        """See TransferSession."""
        self._engine.require(State.STAGED)
        activate = frames.Activate(
            self._engine.session, self._reactions.job().image.sha256, self._reactions.known().boot_id, trial_s
        )
        self._engine.ask(State.ACTIVATE, activate, now)

    def confirm(self, image: session.Image, now: float) -> None:
        """See TransferSession."""
        self._engine.require(State.IDLE)
        knows_sha256 = self._reactions.known().running_sha256 is not None
        self._engine.nonce = self._random.getrandbits(32)
        confirm = (
            Confirm(self._engine.nonce, sha256=image.sha256)
            if knows_sha256
            else Confirm(self._engine.nonce, version=image.version)
        )
        self._engine.ask(State.CONFIRM, confirm, now)

    def arm(self, now: float) -> None:
        """See TransferSession."""
        raise RuntimeError(f"RCP activates in one step, at {now}")

    def next_step(self, update: Update) -> Step:
        """See TransferSession."""
        return next_step(update, self._reactions.known())

    def has_restarted(self, update: Update) -> bool:
        """See TransferSession."""
        return has_restarted(update, self._reactions.known())

    def receive_data(self, data: bytes, now: float) -> None:
        """See TransferSession."""
        for frame in self._engine.decode(data):
            self._reactions.take(frame, now)

    @property
    def needs_response(self) -> bool:
        """See TransferSession."""
        return self._engine.needs_response

    def set_max_datagram(self, size_bytes: int) -> None:
        """See TransferSession."""
        self._engine.set_max_datagram(size_bytes)

    def set_waiting(self, frames: int) -> None:
        """Let that many frames, not the link's own number, be in flight beyond what fills the line."""
        self._reactions.waiting = frames

    def data_to_send(self, now: float) -> bytes:
        """See TransferSession."""
        if self._engine.is_between_frames:
            frame = self._engine.next_frame(now)
            if frame is None:
                return b""
            if isinstance(frame, frames.Data):
                self._reactions.job().count(frame, self.traffic)
            self._engine.begin(frame)
        return self._engine.next_packet()

    def next_event(self) -> session.Event | None:
        """See TransferSession."""
        return self._engine.events.popleft() if self._engine.events else None

    def next_deadline(self) -> float | None:
        """See TransferSession."""
        return self._engine.next_deadline()

    def rest_until(self) -> float:
        """See TransferSession."""
        flow = self._engine.flow
        return -math.inf if flow is None else flow.rest_until()

    def handle_timeout(self, now: float) -> None:
        """See TransferSession."""
        self._reactions.fall_due(self._engine.handle_timeout(now), now)
