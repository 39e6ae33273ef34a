"""The gateway's own report: on each connection and on each change, and nothing in between."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from gatewayd.mqtt.gateway_report import GatewayReport
from gatewayd.mqtt.login import BrokerError
from gatewayd.status.gateway import GatewayStatus

NOW = datetime(2026, 11, 28, tzinfo=UTC)


class Lab:
    """A report, a broker that may be away or say no, and seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.status = self.with_state("idle")
        self.refusal: str | None = None
        self.messages: list[bytes] = []
        self.asked = 0
        self._ticks = asyncio.Semaphore(0)
        self.report = GatewayReport(lambda: self.status, self, topic="gatewayd/barn/gateway", sleep=self._nap)

    @staticmethod
    def with_state(state: str) -> GatewayStatus:
        return GatewayStatus("1.0", NOW, NOW, "abc", "", {state: 1}, None, NOW)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        assert (topic, retain) == ("gatewayd/barn/gateway", True)
        self.asked += 1
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise BrokerError("no", code=self.refusal)
        self.messages.append(payload)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def a_second_passes(self) -> None:
        self._ticks.release()
        await self.settle()

    async def _nap(self, _: float) -> None:
        await self._ticks.acquire()


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    it = Lab()
    task = asyncio.create_task(it.report.run())
    await it.settle()
    yield it
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_change_is_sent_once(lab: Lab) -> None:
    lab.status = lab.with_state("succeeded")
    for _ in range(3):
        await lab.a_second_passes()
    assert lab.messages == [lab.with_state("idle").to_bytes(), lab.with_state("succeeded").to_bytes()]


async def test_a_new_connection_gets_it_at_once(lab: Lab) -> None:
    lab.report.resend()
    await lab.settle()
    assert len(lab.messages) == 2


async def test_what_could_not_be_sent_is_sent_later(lab: Lab) -> None:
    lab.refusal, lab.status = "not_connected", lab.with_state("failed")
    await lab.a_second_passes()
    lab.refusal = None
    await lab.a_second_passes()
    assert lab.messages[1:] == [lab.with_state("failed").to_bytes()]


async def test_what_the_broker_forbids_is_not_repeated(lab: Lab) -> None:
    lab.refusal, lab.status = "publish_refused", lab.with_state("failed")
    for _ in range(5):
        await lab.a_second_passes()
    assert lab.asked == 2
