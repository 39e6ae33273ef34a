"""The pump on a link that hands over what arrives: what goes on without the task, and what is left to it."""

import asyncio
import random
from collections.abc import Callable

import pytest
from lab.jobs import clock, timeless
from lab.rcp.joined import make_image
from lab.rcp.script import INFO

from gatewayd.delivery.pump import SEND_LIMIT_S, Pump
from gatewayd.errors import LinkLost
from gatewayd.link.base import LeadsToOne
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import StreamDeframer, encode_stream
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.rcp.tlv_frames import Hello, Info, Offer
from gatewayd.protocol.session import Event, Failed, Identified, Image, Outcome, Progress, Staged

IMAGE = make_image(8192)
LONG_IMAGE = make_image(65536)
CHUNK_S = 1041 / 11520
SIZE = len(IMAGE.content)
BAUD, FAST = 115200, 921600


class QuickLink(LeadsToOne):
    """Takes frames at once while `has_room`, and hands over what a test says."""

    is_datagram = False
    vanishes_with_device = False
    max_datagram = None

    def __init__(self) -> None:
        self.has_room = True
        self.waited_for: list[frames.Frame] = []  # sent with `send`
        self.can_hold = False
        self.kept: list[bytes] | None = None  # what came since `hold`
        self.writes = 0
        self.speeds: list[int] = []
        self._sent: list[frames.Frame] = []
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = asyncio.Event()

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def send_now(self, data: bytes) -> bool:
        if self.has_room:
            self._sent += _frames(data)
            self.writes += 1
        return self.has_room

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        assert not confirmed
        await self._room.wait()
        self.waited_for += _frames(data)

    async def receive(self) -> bytes:
        return await self._heard.get()

    def hold(self) -> bool:
        if self.can_hold:
            self.kept = []
        return self.can_hold

    def look(self) -> None:
        kept, self.kept = self.kept, None
        if kept:
            assert self.on_data is not None
            self.on_data(b"".join(kept))

    async def set_baud(self, baud: int) -> None:
        self.speeds.append(baud)

    def make_room(self) -> None:
        self.has_room = True
        self._room.set()

    def say(self, *said: frames.Frame) -> list[frames.Frame]:
        """Hand over frames, one by one; return what was sent before anything else had its turn."""
        for frame in said:
            wire = encode_stream(frame.to_bytes())
            if self.kept is not None:
                self.kept.append(wire)
                continue
            assert self.on_data is not None
            self.on_data(wire)
        return self.sent()

    def say_late(self, frame: frames.Frame) -> None:
        """Have `receive` return a frame."""
        self._heard.put_nowait(encode_stream(frame.to_bytes()))

    def sent(self) -> list[frames.Frame]:
        """Take what was sent without waiting."""
        sent, self._sent = self._sent, []
        return sent


def _frames(wire: bytes) -> list[frames.Frame]:
    contents = StreamDeframer(65535).feed(wire)
    return [frames.decode(content) for content in contents if isinstance(content, bytes)]


class Rig:
    """A pump that has been opened, its link, and what it told."""

    def __init__(
        self, on_notice: Callable[[Event], None] | None = None, fast_baud: int | None = None
    ) -> None:
        self.link = QuickLink()
        self.notices: list[Event] = []
        session = RcpGateway("gw", base_baud=BAUD, transfer_baud=fast_baud, random=random.Random(1))
        self.pump = Pump(self.link, session, clock=clock, on_notice=on_notice or self.notices.append)
        self.operation: asyncio.Task[Outcome] | None = None

    async def begin(self) -> list[frames.Frame]:
        """Let the operation begin that the session has been told; return what it sends."""
        self.operation = asyncio.create_task(self.pump.outcome())
        await _turns()
        return self.link.sent()

    async def outcome(self) -> Outcome:
        assert self.operation is not None
        return await self.operation

    async def identified(self) -> None:
        self.pump.session.identify(clock(), 5.0)
        (hello,) = await self.begin()
        assert isinstance(hello, Hello)
        self.link.say(Info(hello.nonce, INFO))
        assert isinstance(await self.outcome(), Identified)

    async def sending(self, image: Image = IMAGE) -> int:
        """Lead it to where the device has accepted the image; return the session's number."""
        await self.identified()
        self.pump.session.transfer(image, clock())
        (offer,) = await self.begin()
        assert isinstance(offer, Offer)
        data = self.link.say(frames.Accept(offer.session, 0, 0, 4096))
        assert [frame.offset for frame in data if isinstance(frame, frames.Data)] == [0, 1024]
        return offer.session

    async def resting(self) -> tuple[int, int]:
        """Lead it to where the link keeps what arrives; return the session's number and `received`."""
        self.link.can_hold = True
        number, received = await self.sending(LONG_IMAGE), 0
        while self.link.kept is None:
            await asyncio.sleep(CHUNK_S)
            received += 1024
            self.link.say(frames.Ack(number, received, 0, received + 4096))
        return number, received


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@timeless
async def test_an_ack_is_answered_before_the_loop_turns_and_nobody_is_woken() -> None:
    rig = Rig()
    async with rig.pump:
        number = await rig.sending()
        (data,) = rig.link.say(frames.Ack(number, 1024, 0, 8192))
        assert isinstance(data, frames.Data)
        assert data.offset == 2048
        assert isinstance(rig.notices[-1], Progress)
        assert rig.notices[-1].received == 1024
        assert not rig.pump._news.is_set()  # noqa: SLF001 - the task sleeps on


@timeless
async def test_a_whole_transfer_with_a_device_that_answers_at_once() -> None:
    rig = Rig()
    async with rig.pump:
        number = await rig.sending()
        received, got = 0, [0, 1024]
        while received < SIZE:
            received += 1024
            await asyncio.sleep(0.1)
            sent = rig.link.say(frames.Ack(number, received, 0, min(SIZE, received + 4096)))
            got += [frame.offset for frame in sent if isinstance(frame, frames.Data)]
        assert got == list(range(0, SIZE, 1024))
        assert isinstance(sent[-1], frames.Finish)
        rig.link.say(frames.Finished(number, IMAGE.sha256))
        assert isinstance(await rig.outcome(), Staged)
        assert rig.pump.due is None


@timeless
async def test_what_the_line_does_not_take_at_once_the_task_sends_in_its_order() -> None:
    rig = Rig()
    async with rig.pump:
        number = await rig.sending()
        rig.link.has_room = False
        assert rig.link.say(frames.Ack(number, 1024, 0, 8192)) == []
        assert rig.link.say(frames.Ack(number, 2048, 0, 8192)) == []  # while the task has not had its turn
        await _turns()
        assert rig.pump.due == pytest.approx(clock() + SEND_LIMIT_S)
        rig.link.say(frames.Nak(number, 2048, 0, 8192))  # and while it waits for room
        rig.link.make_room()
        await _turns()
        waited = [frame.offset for frame in rig.link.waited_for if isinstance(frame, frames.Data)]
        later = [frame.offset for frame in rig.link.sent() if isinstance(frame, frames.Data)]
        assert waited == [2048]
        assert later[0] == 2048  # the device has said so meanwhile


@timeless
async def test_a_line_that_takes_nothing_is_lost() -> None:
    rig = Rig()
    async with rig.pump:
        number = await rig.sending()
        rig.link.has_room = False
        rig.link.say(frames.Ack(number, 1024, 0, 8192))
        with pytest.raises(LinkLost, match="has accepted no data for 60 s"):
            await rig.outcome()


@timeless
async def test_the_speed_is_changed_before_anything_else_is_sent() -> None:
    rig = Rig(fast_baud=FAST)
    async with rig.pump:
        await rig.identified()
        rig.pump.session.transfer(IMAGE, clock())
        (set_baud,) = await rig.begin()
        assert isinstance(set_baud, frames.SetBaud)
        assert rig.link.say(frames.BaudOk(0, FAST, FAST)) == []
        assert rig.link.speeds == []  # that has to be waited for
        await _turns()
        assert rig.link.speeds == [FAST]
        (hello,) = rig.link.sent()
        assert isinstance(hello, Hello)


@timeless
async def test_deadlines_move_with_what_arrives_and_come_when_nothing_does() -> None:
    rig = Rig()
    async with rig.pump:
        number = await rig.sending()
        for received in (1024, 2048):
            await asyncio.sleep(0.1)
            rig.link.say(frames.Ack(number, received, 0, received + 2048))
        due = rig.pump.session.next_deadline()
        assert due == rig.pump.due
        assert due is not None
        await asyncio.sleep(due - clock() - 0.001)
        assert rig.link.sent() == []
        await asyncio.sleep(0.002)
        (probe,) = rig.link.sent()
        assert isinstance(probe, frames.Data)
        assert probe.payload == b""


@timeless
async def test_a_deadline_that_comes_nearer_is_kept() -> None:
    rig = Rig()
    async with rig.pump:
        number = await rig.sending()
        rig.link.say(frames.Busy(number, 60_000))
        assert rig.pump.due == pytest.approx(clock() + 60.0)
        for received in range(1024, SIZE + 1, 1024):
            rig.link.say(frames.Ack(number, received, 0, SIZE))
        assert rig.pump.due is not None  # FINISH, which knows of no BUSY
        assert rig.pump.due < clock() + 5.0
        await asyncio.sleep(rig.pump.due - clock() + 0.001)
        assert isinstance(rig.link.sent()[-1], frames.Finish)


@timeless
async def test_what_goes_wrong_on_the_way_is_raised_where_the_outcome_is_awaited() -> None:
    def fail(_event: Event) -> None:
        raise RuntimeError("no room for it")

    rig = Rig(on_notice=fail)
    async with rig.pump:
        await rig.identified()
        rig.pump.session.transfer(IMAGE, clock())
        (offer,) = await rig.begin()
        assert isinstance(offer, Offer)
        rig.link.say(frames.Accept(offer.session, 0, 0, 4096))
        with pytest.raises(RuntimeError, match="no room for it"):
            await rig.outcome()


@timeless
async def test_what_receive_brings_counts_likewise() -> None:
    rig = Rig()
    async with rig.pump:
        number = await rig.sending()
        rig.link.say_late(frames.Ack(number, 1024, 0, 8192))
        await _turns()
        (data,) = rig.link.sent()
        assert isinstance(data, frames.Data)
        assert data.offset == 2048


@timeless
async def test_a_link_opened_again_begins_with_nothing_left_over() -> None:
    rig = Rig()
    async with rig.pump:
        number = await rig.sending()
        rig.link.has_room = False
        rig.link.say(frames.Ack(number, 1024, 0, 8192))
        assert rig.operation is not None
        rig.operation.cancel()
        await asyncio.wait([rig.operation])
        rig.link.has_room = True
        await rig.pump.reopen(RcpGateway("gw", base_baud=BAUD, random=random.Random(2)))
        rig.pump.session.identify(clock(), 1.0)
        assert all(isinstance(frame, Hello) for frame in await rig.begin())
        assert isinstance(await rig.outcome(), Failed)
        assert rig.link.waited_for == []


@timeless
async def test_while_the_line_has_enough_to_send_answers_wait_and_are_taken_in_one_turn() -> None:
    rig = Rig()
    async with rig.pump:
        number, received = await rig.resting()
        begun, writes = clock(), rig.link.writes
        for _ in range(2):
            received += 1024
            assert rig.link.say(frames.Ack(number, received, 0, received + 4096)) == []
        await _until(lambda: rig.link.writes > writes)
        assert clock() - begun > CHUNK_S
        data = rig.link.sent()
        assert [frame.offset for frame in data if isinstance(frame, frames.Data)] == [
            received + 2048,
            received + 3072,
        ]
        assert rig.link.writes == writes + 1
        assert rig.link.kept == []  # and so on
        assert not rig.pump._news.is_set()  # noqa: SLF001 - the task sleeps on


@timeless
async def test_a_rest_in_which_nothing_comes_ends_and_the_deadline_is_kept() -> None:
    rig = Rig()
    async with rig.pump:
        await rig.resting()
        due = rig.pump.due
        assert due is not None
        assert due == rig.pump.session.next_deadline()
        await _until(lambda: rig.link.kept is None)
        assert clock() < due
        assert rig.link.sent() == []
        await asyncio.sleep(due - clock() + 0.001)
        (probe,) = rig.link.sent()
        assert isinstance(probe, frames.Data)
        assert probe.payload == b""


@timeless
async def test_an_operation_that_is_given_up_in_a_rest_leaves_the_link_awake() -> None:
    rig = Rig()
    async with rig.pump:
        await rig.resting()
        assert rig.operation is not None
        rig.operation.cancel()
        await asyncio.wait([rig.operation])
        assert rig.link.kept is None


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.001)
