"""The flow of DATA over a line that keeps the order and loses frames, in virtual time."""

import math
import random
from collections import deque
from dataclasses import dataclass

from hypothesis import event, given
from hypothesis import strategies as st

from gatewayd.protocol.rcp.flow import DataFlow
from gatewayd.protocol.rcp.frames import Ack, Data, Nak
from gatewayd.protocol.rcp.limits import Limits

IMAGE = random.Random(3).randbytes(20_000)
SIZE = len(IMAGE)


class Model:
    """A device that does what section 5 says, behind a line that keeps the order and loses frames."""

    def __init__(self, limits: Limits, chance: random.Random, losses: float) -> None:
        self.got = bytearray()
        self.credit = min(SIZE, limits.window)
        self.limits = limits
        self.to_device: deque[Data] = deque()
        self.to_gateway: deque[Ack | Nak] = deque()
        self._chance = chance
        self._losses = losses
        self._said_nak = False
        self._last_offset = -1
        self._outstanding: list[Data] = []

    def send(self, data: Data, received: int) -> None:
        """Take what the gateway sends, to whose knowledge `received` bytes have arrived."""
        self._check_ring(data, received)
        assert data.offset + len(data.payload) <= self.credit
        assert not data.payload or data.offset + len(data.payload) <= len(self.got) + max(
            self.limits.window, len(data.payload)
        )
        if not self._is_lost():
            self.to_device.append(data)
        elif self._chance.random() < 0.5:  # it comes, broken
            self.to_device.append(Data(0, 0))

    def _check_ring(self, data: Data, received: int) -> None:
        """What is outstanding of this pass fits into the ring; one frame may always be outstanding."""
        if not data.payload:
            return
        self._outstanding = [
            sent
            for sent in self._outstanding
            if sent.offset + len(sent.payload) > received and sent.offset < data.offset
        ]
        self._outstanding.append(data)
        wire = sum(self.limits.wire(len(sent.payload)) for sent in self._outstanding)
        assert len(self._outstanding) == 1 or wire <= self.limits.ring

    def answer(self) -> None:
        data = self.to_device.popleft()
        if data.session == 0:
            self._gap()
        elif not data.payload:
            self._say(Ack)
        else:
            self._take(data)

    def _take(self, data: Data) -> None:
        if data.offset <= self._last_offset:
            self._said_nak = False
        self._last_offset = data.offset
        if data.offset > len(self.got):
            self._gap()
            return
        self.got += data.payload[len(self.got) - data.offset :]
        self._said_nak = False
        self.credit = max(self.credit, min(SIZE, len(self.got) + self.limits.window))
        self._say(Ack)

    def _gap(self) -> None:
        if not self._said_nak:
            self._said_nak = True
            self._say(Nak)

    def _say(self, kind: type[Ack] | type[Nak]) -> None:
        if not self._is_lost():
            self.to_gateway.append(kind(5, len(self.got), 0, self.credit))

    def _is_lost(self) -> bool:
        return self._chance.random() < self._losses


@given(
    limits=st.builds(
        Limits,
        chunk=st.sampled_from([128, 500, 1024]),
        unit=st.sampled_from([1, 8]),
        window=st.sampled_from([1024, 4096]),
        ring=st.sampled_from([100, 1500, 8192]),
    ),
    losses=st.sampled_from([0.0, 0.02, 0.2]),
    seed=st.integers(0, 2**32),
)
def test_every_byte_arrives_whatever_is_lost(limits: Limits, losses: float, seed: int) -> None:
    chance = random.Random(seed)
    model, now = Model(limits, chance, losses), 0.0
    flow = DataFlow(IMAGE, 5, limits, offset=0, credit=model.credit, rate=11520.0, turnaround_s=0.0, now=now)
    steps = 0
    while not flow.is_complete and not flow.is_stalled:
        steps += 1
        assert steps < 20_000
        if (data := flow.next_frame(now)) is not None:
            model.send(data, flow.received)
        elif model.to_device and (not model.to_gateway or chance.random() < 0.5):
            model.answer()
        elif model.to_gateway:
            flow.take(model.to_gateway.popleft(), now)
        else:
            now = flow.deadline()
            flow.handle_timeout(now)
    event("complete" if flow.is_complete else "stalled")
    assert flow.is_complete or losses > 0.1
    assert model.got == IMAGE[: len(model.got)]


@dataclass(frozen=True)
class Timing:
    """How a line and the device behind it take their time. Bytes a second, seconds."""

    rate: float
    latency_s: float
    changes_to: float = 1.0  # times the rate, from the middle of the image on
    timer_s: float = 0.0  # ACKs arrive only at multiples of it
    erase_s: float = 0.0  # how long the device answers nothing at each erase block; its ring takes what comes


ACK_WIRE, ERASE_BLOCK = 24, 4096


class TimedLine:
    """A model whose frames take their time. What the gateway sends waits where it cannot be taken back."""

    def __init__(self, model: Model, timing: Timing) -> None:
        self.answers: deque[tuple[float, Ack | Nak]] = deque()
        self.sent_twice = 0
        self._model = model
        self._timing = timing
        self._idle_at = self._free_at = self._back_at = 0.0
        self._highest = 0

    def send(self, data: Data, received: int, now: float) -> None:
        """Take what the gateway sends, and reckon when it hears of it."""
        end = data.offset + len(data.payload)
        self.sent_twice += len(data.payload) if end <= self._highest else 0
        self._highest = max(self._highest, end)
        model, before = self._model, len(self._model.got)
        model.send(data, received)
        slower = self._timing.changes_to if before > SIZE / 2 else 1.0
        rate = self._timing.rate * slower
        self._idle_at = max(self._idle_at, now) + model.limits.wire(len(data.payload)) / rate
        if not model.to_device:
            return
        model.answer()
        heard_at = max(self._idle_at + self._timing.latency_s, self._free_at)
        erases = len(model.got) // ERASE_BLOCK - before // ERASE_BLOCK
        self._free_at = heard_at + erases * self._timing.erase_s
        if model.to_gateway:
            self._back_at = max(self._back_at, self._free_at) + ACK_WIRE / rate
            timer_s, at = self._timing.timer_s, self._back_at + self._timing.latency_s
            at = math.ceil(at / timer_s) * timer_s if timer_s else at
            self.answers.append((at, model.to_gateway.popleft()))


@given(
    limits=st.builds(
        Limits,
        chunk=st.sampled_from([128, 500, 1024]),
        unit=st.sampled_from([1, 8]),
        window=st.sampled_from([1024, 3000, 4096, 16384]),
        ring=st.sampled_from([100, 1500, 8192, 32768]),
    ),
    timing=st.builds(
        Timing,
        rate=st.sampled_from([30.0, 960.0, 11520.0, 92160.0]),
        latency_s=st.floats(0, 0.05),
        changes_to=st.sampled_from([1.0, 0.5, 2.0]),
        timer_s=st.sampled_from([0.0, 0.016]),
        erase_s=st.sampled_from([0.0, 0.045, 1.0]),
    ),
    losses=st.sampled_from([0.0, 0.0, 0.02, 0.2]),
    seed=st.integers(0, 2**32),
)
def test_on_every_line_a_transfer_ends_within_its_bounds_and_a_clean_one_carries_nothing_twice(
    limits: Limits, timing: Timing, losses: float, seed: int
) -> None:
    """The model checks credit, window and ring with each frame."""
    model, now = Model(limits, random.Random(seed), losses), 0.0
    line = TimedLine(model, timing)
    turnaround_s = 2 * timing.latency_s + timing.timer_s  # as HELLO and OFFER have shown
    flow = DataFlow(
        IMAGE,
        5,
        limits,
        offset=0,
        credit=model.credit,
        rate=timing.rate,
        turnaround_s=turnaround_s,
        now=now,
    )
    steps = 0
    while not flow.is_complete and not flow.is_stalled:
        steps += 1
        assert steps < 20_000
        if (data := flow.next_frame(now)) is not None:
            line.send(data, flow.received, now)
        elif line.answers and line.answers[0][0] <= flow.deadline():
            now, answer = max(now, line.answers[0][0]), line.answers.popleft()[1]
            flow.take(answer, now)
        else:
            now = max(now, flow.deadline())
            flow.handle_timeout(now)
    event("complete" if flow.is_complete else "stalled")
    assert flow.is_complete or losses > 0.1
    assert losses or not line.sent_twice
    assert model.got == IMAGE[: len(model.got)]
