"""The pump that joins an open link and a transfer session: bytes and time in, bytes and outcomes out.

A chunk of an image every few milliseconds wakes the daemon each time, and every turn of the event loop costs
as much as what the session does with it. So a link may hand over what arrives as it arrives (`on_data`), and
what the session answers goes out there and then (`send_now`), in the same turn. The task that waits for the
outcome has the rest: what has to wait or has fallen due, outcomes, and links that can do neither.

Better than a cheap turn is none. While the line has enough to send, the session says until when answers may
wait (`rest_until`). The link then keeps what arrives (`hold`), and the timer that ends the rest takes all of
it in one turn (`look`).

Nor is the timer moved with each frame: it goes off at the deadline that it was set for, and is set again if
there is a later one by then.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from gatewayd.config import Wake
from gatewayd.errors import LinkLost
from gatewayd.link.base import Link
from gatewayd.link.wake import wake
from gatewayd.protocol.session import OUTCOMES, Event, LineSpeed, Outcome, TransferSession

# A line that accepts nothing for this long is dead, whatever the kernel says. A frame of 1 KiB takes 35 s at
# 300 baud.
SEND_LIMIT_S = 60.0
# A connection that does not confirm a write for this long is dead; Bluetooth itself waits for 30 s. Pairing
# may be part of it.
CONFIRM_LIMIT_S = 15.0


class Pump:
    """One device on one link. Opens the link on entry, closes it on exit."""

    def __init__(
        self,
        link: Link,
        session: TransferSession,
        *,
        clock: Callable[[], float],
        on_notice: Callable[[Event], None],
    ) -> None:
        self.session = session
        self._link = link
        self._clock = clock
        self._on_notice = on_notice
        self._news = asyncio.Event()
        self._datagram_size: int | None = None
        self._broken: Exception | None = None  # what ended the reading
        self._reader: asyncio.Task[None] | None = None
        self._is_waiting = False  # so that whatever brings news may go on without the task
        self._left_event: Event | None = None  # taken from the session, and left to the task
        self._left_frame = b""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._rests_until: float | None = None  # while the link keeps what arrives
        # While an operation is under way: its latest next action. Past it, the operation counts as hung.
        self.due: float | None = None

    async def __aenter__(self) -> Self:
        """Open. Raises LinkError."""
        await self._open()
        return self

    @property
    def vanishes_with_device(self) -> bool:
        """See Link."""
        return self._link.vanishes_with_device

    async def reopen(self, session: TransferSession) -> None:
        """Reopen a link that went down, for a new session. Raises LinkError."""
        await self._stop_reading()
        await self._link.close()
        self.session, self._broken = session, None
        self._left_event, self._left_frame = None, b""
        await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stop_reading()
        finally:
            await self._link.close()

    @property
    def now(self) -> float:
        """The session's clock."""
        return self._clock()

    async def wake(self, exchange: Wake) -> None:
        """Say what the device wants to hear before it listens. Raises LinkError `wake_failed`, LinkLost."""
        await self._stop_reading()
        try:
            expect = None if exchange.expect is None else exchange.expect.encode()
            await wake(self._link, exchange.send.encode(), expect)
        finally:
            self._start_reading()

    async def outcome(self) -> Outcome:
        """Run the operation under way to its outcome. Raises LinkLost."""
        try:
            return await self._until_outcome()
        finally:
            self.due = None
            self._stop_timer()
            self._end_rest()

    async def _until_outcome(self) -> Outcome:
        while True:
            self._news.clear()
            self._note_datagram_size()  # a radio may tell it late, or again
            if self._broken is not None:
                raise self._broken
            self._act_on_time()
            outcome = await self._take_events()
            if outcome is not None:
                return outcome
            frame, self._left_frame = self._left_frame or self.session.data_to_send(self._clock()), b""
            if frame:
                await self._send(frame)
            else:
                await self._wait()

    async def _open(self) -> None:
        await self._link.open()
        self._datagram_size = None
        self._note_datagram_size()
        self._start_reading()

    def _note_datagram_size(self) -> None:
        """Tell the session what one datagram carries, if that is new."""
        size = self._link.max_datagram
        if size is not None and size != self._datagram_size:
            self._datagram_size = size
            self.session.set_max_datagram(size)

    def _start_reading(self) -> None:
        self._link.on_data = self._take_data
        self._reader = asyncio.create_task(self._read())

    async def _stop_reading(self) -> None:
        self._link.on_data = None
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def _take_events(self) -> Outcome | None:
        while (event := self._left_event or self.session.next_event()) is not None:
            self._left_event = None
            if isinstance(event, LineSpeed):
                await self._link.set_baud(event.baud)
            elif isinstance(event, OUTCOMES):
                return event
            else:
                self._on_notice(event)
        return None

    def _act_on_time(self) -> None:
        deadline = self.session.next_deadline()
        if deadline is not None and deadline <= self._clock():
            self.session.handle_timeout(self._clock())

    async def _send(self, frame: bytes) -> None:
        confirmed = self.session.needs_response
        if not confirmed and self._link.send_now(frame):
            return
        limit_s = CONFIRM_LIMIT_S if confirmed else SEND_LIMIT_S
        self.due = self._clock() + limit_s
        try:
            async with asyncio.timeout(limit_s):
                await self._link.send(frame, confirmed=confirmed)
        except TimeoutError:
            what = "device has not confirmed a write" if confirmed else "line has accepted no data"
            raise LinkLost(f"the {what} for {limit_s:.0f} s") from None

    async def _wait(self) -> None:
        """Wait for news that `_go_on` cannot deal with; a deadline is news, too."""
        self._await_deadline()
        self._is_waiting = True
        try:
            await self._news.wait()
        finally:
            self._is_waiting = False

    async def _read(self) -> None:
        try:
            while True:
                self._take_data(await self._link.receive())
        except Exception as error:  # noqa: BLE001 - raised where the outcome is awaited
            self._broken = error
            self._news.set()

    def _take_data(self, data: bytes) -> None:
        """Give the session what has arrived, and go on at once if that needs no waiting."""
        try:
            now = self._clock()
            self.session.receive_data(data, now)
            if self._is_waiting and not self._news.is_set() and self._go_on(now):
                return
        except Exception as error:  # noqa: BLE001 - raised where the outcome is awaited
            self._broken = error
        self._news.set()

    def _go_on(self, now: float) -> bool:
        """Do in place of the task what needs no waiting; leave the rest to it, and return False."""
        while (event := self.session.next_event()) is not None:
            if isinstance(event, (LineSpeed, *OUTCOMES)):
                self._left_event = event
                return False
            self._on_notice(event)
        while frame := self._next_frames(now):
            if self.session.needs_response or not self._link.send_now(frame):
                self._left_frame = frame
                return False
            if not self._link.is_datagram:
                break  # that was all
        rests_until = self.session.rest_until()
        if rests_until > now and self._link.hold():
            self.due = self.session.next_deadline()
            self._rests_until = rests_until
            self._set_timer(rests_until)
        else:
            self._await_deadline()
        return True

    def _next_frames(self, now: float) -> bytes:
        """Take all frames that may be sent now: to write costs more than to make one. A datagram is one."""
        frame = self.session.data_to_send(now)
        if not frame or self._link.is_datagram:
            return frame
        frames = [frame]
        while frame := self.session.data_to_send(now):
            frames.append(frame)
        return b"".join(frames)

    def _end_rest(self) -> None:
        if self._rests_until is not None:
            self._rests_until = None
            self._link.look()

    def _await_deadline(self) -> None:
        self.due = self.session.next_deadline()
        if self.due is not None:
            self._set_timer(self.due)

    def _set_timer(self, at: float) -> None:
        """See that the timer goes off no later than that."""
        if self._timer is not None and self._timer_at <= at:
            return
        self._stop_timer()
        delay = max(0.0, at - self._clock())
        self._timer, self._timer_at = asyncio.get_running_loop().call_later(delay, self._on_timer), at

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        now = self._clock()
        if self._rests_until is not None and self._rests_until > now:
            self._set_timer(self._rests_until)
            return
        self._end_rest()
        if self._timer is not None or self._news.is_set():
            return  # what came in the meantime has moved things on
        deadline = self.session.next_deadline()
        if deadline is not None and deadline > now:
            self._set_timer(deadline)
        else:
            self._news.set()
