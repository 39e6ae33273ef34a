"""The device's side of the protocol during one boot: the state table of protocol.md, section 10.

Requests are answered immediately. Only two states have work of their own, due at `work_at`: PREPARE erases
block by block and HASH reads back slice by slice, both under BUSY. A PowerCut propagates to the caller, who
must then discard this object.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from enum import Enum

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.base import FrameType
from gatewayd.protocol.rcp.codes import FrameError, RcpCode
from gatewayd.protocol.rcp.packets import ShortData
from gatewayd.protocol.rcp.tlv_frames import Confirm, Confirmed, Hello, Info, Offer
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.flash import Flash, FlashReadError
from gatewayd.simulator.identity import describe
from gatewayd.simulator.journal import FlashJournal
from gatewayd.simulator.slot import ReadBack, Slot
from gatewayd.simulator.spacing import AckSpacing

_IN_USE_S = 10.0  # protocol.md, section 13: session in use
_BUSY_S = 1.0  # the wait one BUSY asks for; sent again halfway through
_ANOTHER_GATEWAY = 1  # a NOT_NOW reason

SessionFrame = frames.Data | frames.Finish | frames.Activate


class State(Enum):
    """The state of the session."""

    IDLE = "no session"
    PREPARE = "an offer is taken; flash is being erased"
    RECV = "bytes are wanted"
    FULL = "all bytes are written"
    HASH = "the slot is being read back"
    STAGED = "the slot's SHA-256 is the offered one"
    RESTART = "the boot flag is set, ACTIVATED is leaving the line"


class DeviceProtocol:
    """The protocol during one boot. `outbox` holds the contents of frames to be sent."""

    def __init__(
        self, flash: Flash, bootloader: Bootloader, boot_id: int, log: Callable[[str], None]
    ) -> None:
        self.profile = profile = bootloader.profile
        self.spacing = AckSpacing(min(profile.window, profile.rx_ring))
        self.outbox: deque[bytes] = deque()
        self._flash = flash
        self._bootloader = bootloader
        self._boot_id = boot_id
        self._log = log
        image = bootloader.image
        self._running_sha256 = None if image is None else hashlib.sha256(image).digest()
        self._journal = FlashJournal(flash, area_size=profile.journal_area)
        self._slot = Slot(flash, self._journal, address=2 * profile.journal_area)
        self._gateway_id = self._session_gateway_id = ""
        self._read_back: ReadBack | None = None  # in HASH
        self._said_nak = False
        self._last_offset = -1
        self._end_session()

    def take(self, content: bytes, now: float) -> None:
        """Answer a frame that arrived intact."""
        if content[0] in list(FrameType) and content[0] not in frames.FROM_GATEWAY:
            return
        session = content[1]
        try:
            frame = frames.decode(content)
        except FrameError as error:
            is_offer = content[0] == FrameType.OFFER and session
            self._send((frames.Refuse if is_offer else frames.Error)(session, error.number))
            return
        if session and session == self._session and not isinstance(frame, Offer):
            self._session_heard_at = now
        if isinstance(frame, Hello):
            self._gateway_id = frame.gateway_id
            info = describe(
                self._bootloader,
                self._journal.memory,
                boot_id=self._boot_id,
                running_sha256=self._running_sha256,
                is_datagram=self.spacing.is_datagram,
            )
            self._send(Info(frame.nonce, info))
        elif isinstance(frame, Confirm):
            self._on_confirm(frame)
        elif isinstance(frame, frames.Abort):
            self._on_abort(frame)
        elif isinstance(frame, frames.SetBaud):
            self._on_set_baud(frame)
        elif isinstance(frame, Offer):
            self._on_offer(frame, now)
        elif isinstance(frame, SessionFrame):
            self._on_session_frame(frame, now)

    def take_short(self, data: ShortData, now: float) -> None:
        """Answer DATA with half an offset; to a device without that feature it is a gap."""
        if not self.profile.can_short_data:
            self.gap()
            return
        offset = data.offset(self._slot.received)
        head = bytes((FrameType.DATA, data.session))
        self.take(head + offset.to_bytes(4, "little") + data.payload, now)

    def work(self, now: float) -> None:
        """Do the next piece of work that takes time."""
        if self.state is State.PREPARE:
            self._erase_one(now)
        else:
            self._hash_slice(now)

    def gap(self) -> None:
        """Say once per pass where to resume; also after a broken frame."""
        if self.state is State.RECV and not self._said_nak:
            self._said_nak = True
            self._say_how_far(frames.Nak)

    def _end_session(self) -> None:
        self.state = State.IDLE
        self._session = 0
        self._session_heard_at = 0.0
        self._offer: Offer | None = None
        self._credit = 0
        self.work_at: float | None = None
        self._busy_until = 0.0
        self._new_pass()

    def _on_session_frame(self, frame: SessionFrame, now: float) -> None:
        if frame.session != self._session:
            self._error(frame.session, RcpCode.NO_SESSION)
        elif self.state is State.HASH or (
            self.state is State.PREPARE and not isinstance(frame, frames.Activate)
        ):
            self._send_busy(now)
        elif isinstance(frame, frames.Activate):
            self._on_activate(frame)
        elif self.state is State.RESTART:
            self._error(frame.session, RcpCode.RESTARTING)
        elif isinstance(frame, frames.Finish):
            self._on_finish(now)
        elif self.state is State.RECV and frame.payload:
            self._on_data(frame)
        else:
            self._acknowledge()

    # OFFER and PREPARE (section 4)

    def _on_offer(self, offer: Offer, now: float) -> None:
        if self.state is State.RESTART:
            self._error(offer.session, RcpCode.RESTARTING)
        elif offer.encoding:
            self._send(frames.Refuse(offer.session, RcpCode.UNKNOWN_ENCODING))
        elif offer.sha256 == self._running_sha256:
            self._send(frames.HaveIt(offer.session, offer.sha256))
        elif self._bootloader.trial_ends is not None:
            self._send(frames.Refuse(offer.session, RcpCode.ON_TRIAL))
        elif self._belongs_to_another(now):
            self._send(frames.NotNow(offer.session, int(_IN_USE_S), _ANOTHER_GATEWAY))
        elif not 0 < offer.size <= self.profile.slot_size:
            self._send(frames.Refuse(offer.session, RcpCode.TOO_LARGE))
        elif self._was_tried(offer):
            self._send(frames.Refuse(offer.session, RcpCode.ALREADY_TRIED))
        elif self.state is State.PREPARE and self._repeats(offer):
            self._send_busy(now)
        else:
            self._take_up(offer, now)

    def _belongs_to_another(self, now: float) -> bool:
        if not self._session or not self._session_gateway_id:
            return False  # no HELLO came before its OFFER, so its gateway is unknown
        in_use = now - self._session_heard_at < _IN_USE_S
        return in_use and self._gateway_id != self._session_gateway_id

    def _repeats(self, offer: Offer) -> bool:
        """Whether it is the session's OFFER again; its flags do not count (section 4)."""
        known = self._offer
        same = known is not None and (known.sha256, known.size) == (offer.sha256, offer.size)
        return same and offer.session == self._session

    def _was_tried(self, offer: Offer) -> bool:
        tries = self._journal.memory.tries_of(offer.sha256)
        return tries > 1 or (tries == 1 and not offer.second_try)

    def _take_up(self, offer: Offer, now: float) -> None:
        is_repeated = self._repeats(offer)
        if not is_repeated:
            self._end_session()
            self._session, self._session_gateway_id = offer.session, self._gateway_id
            self._session_heard_at = now
        self._offer = offer
        self._slot.take_up(offer.sha256, offer.size, from_zero=offer.from_zero and not is_repeated)
        self.state = State.PREPARE
        self.work_at = now
        if self.profile.erase_s:
            self._send_busy(now)
        else:
            self._erase_ahead()
            self._accept()

    def _erase_ahead(self) -> None:
        """Erase as far as the gateway may send; erasing takes no time here."""
        while self._slot.erased < self._slot.edge_for(self._slot.received + self.profile.window):
            self._slot.erase_next()

    def _erase_one(self, now: float) -> None:
        """Erase the next block of the whole image; ACCEPT when there is none left."""
        if self._slot.erased < self._slot.edge_for(self._offered().size):
            self._slot.erase_next()
            self.work_at = now + self.profile.erase_s
            if now > self._busy_until - _BUSY_S / 2:
                self._send_busy(now)
        else:
            self._accept()

    def _accept(self) -> None:
        offer = self._offered()
        try:
            crc = self._slot.prefix_crc()
        except FlashReadError:
            self._slot.take_up(offer.sha256, offer.size, from_zero=True)
            self._erase_ahead()
            crc = 0
        self.work_at = None
        self._new_pass()
        self._grow_credit()
        self.state = State.FULL if self._slot.received == offer.size else State.RECV
        self.spacing.told()
        self._log(f"offer of {offer.version}, {offer.size} bytes: from {self._slot.received}")
        self._send(frames.Accept(offer.session, self._slot.received, crc, self._credit))

    # DATA (section 5)

    def _on_data(self, data: frames.Data) -> None:
        received, size = self._slot.received, len(data.payload)
        if data.offset > self._credit or size > self._credit - data.offset:
            self._error(data.session, RcpCode.MALFORMED)
            return
        if data.offset <= self._last_offset:
            self._new_pass()
        self._last_offset = data.offset
        if data.offset > received:
            self.gap()
        elif size <= received - data.offset:
            self._acknowledge()
        else:
            self._append(data.payload[received - data.offset :], size)

    def _append(self, payload: bytes, chunk: int) -> None:
        try:
            self._slot.append(payload)
        except FlashReadError:
            self._give_image_up(RcpCode.FLASH_READ)
            return
        self._said_nak = False
        self._erase_ahead()
        if self._slot.received == self._offered().size:
            self.state = State.FULL
            self._log("all bytes are written")
        room = self._credit - self._slot.received
        if self.spacing.may_wait(len(payload), chunk, room) and self.state is State.RECV:
            return
        self._grow_credit()
        self._acknowledge()

    def _new_pass(self) -> None:
        self._said_nak = False
        self._last_offset = -1

    def _acknowledge(self) -> None:
        self._say_how_far(frames.Ack)

    def _say_how_far(self, kind: type[frames.Ack | frames.Nak]) -> None:
        self.spacing.told()
        self._send(kind(self._session, self._slot.received, self._slot.durable, self._credit))

    def _grow_credit(self) -> None:
        """A window from `received` on is erased. Grows by what was received, so in steps of whole chunks."""
        credit = min(self._offered().size, self._slot.received + self.profile.window)
        self._credit = max(self._credit, credit)

    # FINISH and HASH (section 7)

    def _on_finish(self, now: float) -> None:
        if self.state is State.RECV:
            self._new_pass()
            self.gap()
        elif self.state is State.STAGED:
            self._send(frames.Finished(self._session, self._offered().sha256))
        else:
            self.state = State.HASH
            self._read_back = ReadBack(self._slot, self._offered().size)
            self.work_at = now
            self._send_busy(now)

    def _hash_slice(self, now: float) -> None:
        offer = self._offered()
        assert self._read_back is not None  # noqa: S101 - FINISH comes first
        try:
            sha256 = self._read_back.next_slice()
        except FlashReadError:
            self._give_image_up(RcpCode.FLASH_READ)
            return
        if sha256 is None:
            if now > self._busy_until - _BUSY_S / 2:
                self._send_busy(now)
        elif sha256 == offer.sha256:
            self.state, self.work_at = State.STAGED, None
            self._log(f"staged {offer.version}")
            self._send(frames.Finished(self._session, offer.sha256))
        else:
            self._give_image_up(RcpCode.DIGEST_MISMATCH)

    def _give_image_up(self, code: RcpCode) -> None:
        self._log(f"gives the image up: {code.name.lower()}")
        session = self._session
        self._slot.forget()
        self._end_session()
        self._error(session, code)

    # ACTIVATE and CONFIRM (section 8)

    def _on_activate(self, frame: frames.Activate) -> None:
        offer = self._offered()
        if self.state is State.RESTART:
            self._send(frames.Activated(frame.session))
        elif self.state is not State.STAGED or frame.sha256 != offer.sha256:
            self._error(frame.session, RcpCode.NOT_STAGED)
        elif frame.boot_id != self._boot_id:
            self._error(frame.session, RcpCode.OTHER_BOOT)
        else:
            tries = self._journal.memory.tries_of(offer.sha256) + 1
            self._journal.tried(offer.sha256, tries)
            self._flash.step()
            trial_s = min(frame.trial_s, self.profile.trial_cap_s)
            self._bootloader.set_flag(self._slot.read(0, offer.size), offer.version, trial_s)
            self.state = State.RESTART
            self._log(f"activates {offer.version}, try {tries}")
            self._send(frames.Activated(frame.session))

    def _on_confirm(self, frame: Confirm) -> None:
        runs = (
            frame.sha256 == self._running_sha256
            if frame.sha256
            else frame.version == self._bootloader.version
        )
        if not runs:
            self._error(0, RcpCode.NOT_RUNNING)
            return
        if self._bootloader.trial_ends is not None:
            self._journal.confirmed(self._running_sha256 or bytes(32))
            self._flash.step()
            self._bootloader.confirm()
            self._log(f"{self._bootloader.version} is confirmed")
        self._send(Confirmed(frame.nonce))

    # The rest

    def _on_abort(self, frame: frames.Abort) -> None:
        if frame.session not in {0, self._session}:
            self._error(frame.session, RcpCode.NO_SESSION)
            return
        if self.state is not State.RESTART:
            if frame.discard:
                self._slot.forget()
            self._end_session()
        self._send(frames.Aborted(frame.session))

    def _on_set_baud(self, frame: frames.SetBaud) -> None:
        if self.state is State.RESTART:
            self._error(0, RcpCode.RESTARTING)
        elif self.state is not State.IDLE:
            self._error(0, RcpCode.BAD_STATE)
        elif not self._can_run_at(frame.baud):
            self._error(0, RcpCode.BAUD)
        else:
            self._send(frames.BaudOk(0, frame.baud, frame.baud))

    def _can_run_at(self, baud: int) -> bool:
        has_speed = self.profile.can_set_baud and not self.spacing.is_datagram
        return has_speed and 0 < baud <= self.profile.max_baud

    def _offered(self) -> Offer:
        assert self._offer is not None, self.state  # noqa: S101 - every state that calls this has one
        return self._offer

    def _send_busy(self, now: float) -> None:
        self._busy_until = now + _BUSY_S
        self._send(frames.Busy(self._session, int(_BUSY_S * 1000)))

    def _error(self, session: int, code: RcpCode) -> None:
        self._send(frames.Error(session, code))

    def _send(self, frame: frames.Frame) -> None:
        if not (self.profile.break_after_activate and self._bootloader.trial_ends is not None):
            self.outbox.append(frame.to_bytes())
