"""The pump on a link of packets: what it tells session and link, and a link that confirms nothing."""

import asyncio
import random

import pytest
from lab.jobs import clock, timeless

from gatewayd.delivery.pump import CONFIRM_LIMIT_S, Pump
from gatewayd.errors import LinkLost
from gatewayd.link.base import LeadsToOne
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.session import Failed


class DeadLink(LeadsToOne):
    """Takes any packet, as BlueZ does, and hears nothing. `confirms`: those that ask for it, too."""

    is_datagram = True
    vanishes_with_device = True

    def __init__(self, max_datagram: int, *, confirms: bool) -> None:
        self.max_datagram: int | None = max_datagram
        self.packets: list[tuple[int, bool]] = []
        self._confirms = confirms

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        self.packets.append((len(data), confirmed))
        if confirmed and not self._confirms:
            await asyncio.Event().wait()

    async def receive(self) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async def set_baud(self, baud: int) -> None:
        raise AssertionError(baud)


def conversation(link: DeadLink) -> Pump:
    session = RcpGateway("a gateway of a longer name", datagram=True, random=random.Random(1))
    return Pump(link, session, clock=clock, on_notice=lambda _event: None)


@timeless
async def test_hello_goes_in_packets_as_the_link_has_them_and_the_last_is_confirmed() -> None:
    for size, packets in ((20, [(20, False), (20, False), (9, True)]), (244, [(46, True)])):
        link = DeadLink(size, confirms=True)
        async with conversation(link) as talk:
            talk.session.identify(talk.now, 1.0)
            assert isinstance(await talk.outcome(), Failed)
        assert link.packets[: len(packets)] == packets


@timeless
async def test_a_write_that_is_never_confirmed_is_a_lost_link() -> None:
    begin = clock()
    async with conversation(DeadLink(244, confirms=False)) as talk:
        talk.session.identify(talk.now, 60.0)
        with pytest.raises(LinkLost, match="has not confirmed a write for 15 s"):
            await talk.outcome()
    assert clock() - begin == pytest.approx(CONFIRM_LIMIT_S)


@timeless
async def test_who_runs_says_until_when_it_acts_again_and_who_is_done_does_not() -> None:
    async with conversation(DeadLink(244, confirms=False)) as talk:
        assert talk.due is None
        talk.session.identify(talk.now, 60.0)
        running = asyncio.create_task(talk.outcome())
        await asyncio.sleep(5)
        assert talk.due == pytest.approx(clock() + CONFIRM_LIMIT_S - 5)
        await asyncio.wait([running])
        assert isinstance(running.exception(), LinkLost)
        assert talk.due is None


@timeless
async def test_a_size_that_the_link_tells_late_is_used_at_once() -> None:
    link = DeadLink(20, confirms=True)
    async with conversation(link) as talk:
        talk.session.identify(talk.now, 8.0)
        asking = asyncio.create_task(talk.outcome())
        await asyncio.sleep(0.1)
        assert link.packets[0] == (20, False)
        link.max_datagram = 244
        assert isinstance(await asking, Failed)
    assert link.packets[-1] == (46, True)
