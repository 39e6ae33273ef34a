"""A gateway's session against a device that says, frame by frame, what a test tells it to say."""

import random
from dataclasses import replace
from typing import Any, TypeVar

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import StreamDeframer, encode_stream
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.rcp.tlv_frames import Hello, Info, Offer
from gatewayd.protocol.session import (
    OUTCOMES,
    Event,
    Failed,
    Identified,
    Image,
    ImageState,
    LineSpeed,
    Outcome,
)
from lab.rcp.joined import make_image

IMAGE = make_image(20_000)
INFO = RcpInfo(
    app_id="pump",
    boot_id=7,
    image_state=ImageState.CONFIRMED,
    max_frame=1034,
    window=4096,
    rx_ring=8192,
    slot_size=65536,
    erase_block=4096,
    write_unit=8,
    boot_time_s=2,
    can_set_baud=True,
    can_revert=True,
    version="1.0.0",
    running_sha256=bytes(32),
)
# Frames that may wait beyond what fills the line: then credit, window and ring alone bound what is in flight,
# and the rules about them are seen at once. None is what a gateway does (test_rcp_rules.py, rule 3).
MANY = 512
Kind = TypeVar("Kind")


class Script:
    """The session, the time, and everything the session said."""

    def __init__(
        self,
        *,
        info: RcpInfo = INFO,
        rng: random.Random | None = None,
        waiting: int | None = MANY,
        base_baud: int = 115200,
        **settings: Any,
    ) -> None:
        self.session = RcpGateway("gw", base_baud=base_baud, random=rng or random.Random(1), **settings)
        if waiting is not None:
            self.session.set_waiting(waiting)
        self.info = info
        self.now = 100.0
        self.events: list[Event] = []

    def sent(self) -> list[frames.Frame]:
        """Take what the session sends now."""
        found: list[frames.Frame] = []
        while wire := self.session.data_to_send(self.now):
            (content,) = StreamDeframer(65535).feed(wire)
            assert isinstance(content, bytes)
            found.append(frames.decode(content))
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
        return found

    def say(self, *said: frames.Frame) -> list[frames.Frame]:
        """Speak as the device; return what the session sends upon it."""
        for frame in said:
            self.session.receive_data(encode_stream(frame.to_bytes()), self.now)
        return self.sent()

    def silence(self) -> list[frames.Frame]:
        """Let the next deadline come; return what the session sends then."""
        due = self.session.next_deadline()
        assert due is not None, "the session waits for ever"
        self.now = max(self.now, due)
        self.session.handle_timeout(self.now)
        return self.sent()

    def silence_until(self, kind: type[Kind], most: int = 200) -> Kind:
        """Be silent until the session sends a frame of a kind; return it."""
        for _ in range(most):
            for frame in self.silence():
                if isinstance(frame, kind):
                    return frame
        raise AssertionError(f"no {kind.__name__} after {most} time-outs; events: {self.events[-3:]}")

    def silence_for(self, seconds: float) -> list[frames.Frame]:
        """Be silent for so long; return what the session sends meanwhile."""
        end, found = self.now + seconds, list[frames.Frame]()
        while (due := self.session.next_deadline()) is not None and due <= end:
            found += self.silence()
        self.now = end
        return found

    def outcome(self) -> Outcome | None:
        """The last event, if it is an outcome."""
        self.sent()
        return next((event for event in reversed(self.events) if isinstance(event, OUTCOMES)), None)

    def failed_code(self) -> str:
        outcome = self.outcome()
        assert isinstance(outcome, Failed), outcome
        return outcome.error.code

    def speeds(self) -> list[int]:
        return [event.baud for event in self.events if isinstance(event, LineSpeed)]

    # Ways into a state; each returns the request that the session is left with, or what it sends then

    def greet(self, hello: frames.Frame | None = None, /, **changes: object) -> list[frames.Frame]:
        """Answer HELLO."""
        hello = hello or self.silence_until(Hello)
        assert isinstance(hello, Hello)
        self.info = replace(self.info, **changes)  # type: ignore[arg-type]  # fields by name
        return self.say(Info(hello.nonce, self.info))

    def identified(self) -> "Script":
        self.session.identify(self.now, 5.0)
        self.greet(self.sent()[0])
        assert self.outcome() == Identified(self.info.common)
        return self

    def offered(self, image: Image = IMAGE) -> Offer:
        self.identified().session.transfer(image, self.now)
        (offer,) = self.sent()
        assert isinstance(offer, Offer)
        return offer

    def sending(
        self, image: Image = IMAGE, offset: int = 0, crc: int = 0, credit: int | None = None
    ) -> list[frames.Frame]:
        offer = self.offered(image)
        credit = offset + self.info.window if credit is None else credit
        return self.say(frames.Accept(offer.session, offset, crc, credit))

    def finishing(self, image: Image = IMAGE) -> frames.Finish:
        (data, *_) = self.sending(image)
        assert isinstance(data, frames.Data)
        return self.receive_all(data.session, image)

    def receive_all(self, session: int, image: Image = IMAGE) -> frames.Finish:
        """Say that everything has been received, as far as it was sent, until FINISH."""
        received, size = 0, len(image.content)
        while received < size:
            received = min(received + 4096, size)
            answers = self.say(frames.Ack(session, received, received, min(size, received + 4096)))
        (finish,) = answers
        assert isinstance(finish, frames.Finish)
        return finish

    def staged(self, image: Image = IMAGE) -> int:
        """Return the session number."""
        finish = self.finishing(image)
        self.say(frames.Finished(finish.session, image.sha256))
        return finish.session

    def activating(self) -> frames.Activate:
        self.staged()
        self.session.activate(600, self.now)
        (activate,) = self.sent()
        assert isinstance(activate, frames.Activate)
        return activate


def session_of(sent: list[frames.Frame]) -> int:
    """Return the session of what was sent."""
    (first, *_) = sent
    assert isinstance(first, frames.Data | Offer)
    return first.session


def payloads(sent: list[frames.Frame]) -> list[tuple[int, int]]:
    """Return offset and size of each DATA; anything else is a mistake."""
    found = []
    for frame in sent:
        assert isinstance(frame, frames.Data), frame
        found.append((frame.offset, len(frame.payload)))
    return found


def is_whole(sent: list[tuple[int, int]], offset: int, end: int) -> bool:
    """Whether chunks without a gap are sent from `offset`, until no further one fits before `end`."""
    ends = [at + size for at, size in sent]
    largest = max(size for _, size in sent)
    return [at for at, _ in sent] == [offset, *ends[:-1]] and end - largest < ends[-1] <= end
