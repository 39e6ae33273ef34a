"""The flow of DATA over a line that keeps the order and loses frames, in virtual time."""

import random
from collections import deque

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
