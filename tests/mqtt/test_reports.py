"""Reports: changes at once, progress once a second, nothing lost while there is no broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from lab.brokers import until

from gatewayd.delivery.progress import PROGRESS_INTERVAL_S
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.reports import Reports
from gatewayd.mqtt.topics import GatewayTopics
from gatewayd.status.board import StatusBoard

PUMP = "gatewayd/barn/devices/pump-1"


class Broker:
    """Takes what is published, while it is there."""

    def __init__(self) -> None:
        self.there = True
        self.refuses: set[str] = set()
        self.messages: list[tuple[str, bytes]] = []
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        assert retain
        self.asked += 1
        await asyncio.sleep(0)
        await self.answers.wait()
        if not self.there:
            raise BrokerError("no broker")
        if topic in self.refuses:
            raise BrokerError("not you", code="publish_refused")
        self.messages.append((topic, payload))

    def of(self, topic: str) -> list[dict[str, object]]:
        return [json.loads(payload) for name, payload in self.messages if name == topic]


class Lab:
    """Reports on a board, with a clock that moves when a test says so."""

    def __init__(self, *, with_progress: bool = True) -> None:
        self.board = StatusBoard(lambda: datetime(2026, 11, 23, 10, tzinfo=UTC))
        self.broker = Broker()
        self.naps: list[float] = []
        self._ticks = asyncio.Semaphore(0)
        self.reports = Reports(
            self.board,
            self.broker,
            topics=GatewayTopics("gatewayd/barn"),
            with_progress=with_progress,
            sleep=self._sleep,
        )

    async def a_second_passes(self) -> None:
        asleep = len(self.naps)
        assert asleep, "nothing waits for a second to pass"
        self._ticks.release()
        await self.settle()

    async def settle(self) -> None:
        """Let everything that can run, run."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        await self._ticks.acquire()


@pytest.fixture(params=[True])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    it = Lab(with_progress=request.param)
    task = asyncio.create_task(it.reports.run())
    yield it
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_the_document_is_as_documented(lab: Lab) -> None:
    lab.board.update(
        "pump-1",
        state="transferring",
        installed_version="4.3.1",
        latest_version="4.3.2",
        progress=41,
        bytes_per_s=11000,
        job=7,
        attempt=1,
    )
    await until(lambda: lab.broker.messages)
    assert lab.broker.of(PUMP) == [
        {
            "state": "transferring",
            "app_id": None,
            "installed_version": "4.3.1",
            "latest_version": "4.3.2",
            "progress": 41,
            "bytes_per_s": 11000,
            "job": 7,
            "attempt": 1,
            "code": None,
            "reason": None,
            "paused": False,
            "refused_version": None,
            "refused_reason": None,
            "updated_at": "2026-11-23T10:00:00.000Z",
        }
    ]


async def test_progress_is_sent_once_a_second(lab: Lab) -> None:
    lab.board.update("pump-1", state="transferring", progress=0)
    await lab.settle()
    for percent in range(1, 50):
        lab.board.update("pump-1", progress=percent)
        await lab.settle()
    assert [message["progress"] for message in lab.broker.of(PUMP)] == [0]
    await lab.a_second_passes()
    assert [message["progress"] for message in lab.broker.of(PUMP)] == [0, 49]
    for percent in range(50, 60):
        lab.board.update("pump-1", progress=percent, bytes_per_s=percent)
        await lab.settle()
    assert [message["progress"] for message in lab.broker.of(PUMP)] == [0, 49]
    await lab.a_second_passes()
    assert [message["progress"] for message in lab.broker.of(PUMP)] == [0, 49, 59]
    assert set(lab.naps) == {PROGRESS_INTERVAL_S}
    assert len(lab.naps) == 2


async def test_a_change_of_state_does_not_wait(lab: Lab) -> None:
    lab.board.update("pump-1", state="transferring", progress=0)
    await lab.settle()
    lab.board.update("pump-1", progress=99)
    await lab.settle()
    lab.board.update("pump-1", state="succeeded", progress=None)
    await lab.settle()
    assert [message["state"] for message in lab.broker.of(PUMP)] == ["transferring", "succeeded"]
    await lab.a_second_passes()
    assert len(lab.broker.of(PUMP)) == 2, "the progress before it has nothing left to say"


async def test_final_states_survive_the_absence_of_a_broker(lab: Lab) -> None:
    lab.broker.there = False
    lab.board.update("pump-1", state="transferring", progress=3)
    lab.board.update("pump-2", state="idle")
    await lab.settle()
    lab.board.update("pump-1", state="failed", code="reverted", progress=None)
    await lab.settle()
    assert not lab.broker.messages
    lab.broker.there = True
    lab.reports.resend()
    await lab.settle()
    assert sorted(topic for topic, _ in lab.broker.messages) == [PUMP, "gatewayd/barn/devices/pump-2"]
    assert lab.broker.of(PUMP)[0]["code"] == "reverted"


async def test_no_broker_is_no_reason_to_hurry(lab: Lab) -> None:
    lab.broker.there = False
    lab.board.update("pump-1", state="idle")
    await lab.settle()
    assert lab.broker.asked == 1


async def test_everything_is_sent_again_on_a_new_connection(lab: Lab) -> None:
    for name in ("pump-1", "pump-2"):
        lab.board.update(name, state="idle")
    await lab.settle()
    lab.reports.resend()
    await lab.settle()
    assert len(lab.broker.messages) == 4


async def test_a_removed_device_is_cleared_even_if_it_was_removed_without_a_broker(lab: Lab) -> None:
    lab.board.update("pump-1", state="idle")
    await lab.settle()
    lab.broker.there = False
    lab.board.remove("pump-1")
    await lab.settle()
    lab.broker.there = True
    lab.reports.resend()
    await lab.settle()
    assert lab.broker.messages[-1] == (PUMP, b"")


async def test_a_refused_report_does_not_hold_up_the_others(lab: Lab) -> None:
    lab.broker.refuses = {PUMP}
    lab.board.update("pump-1", state="idle")
    lab.board.update("pump-2", state="idle")
    await lab.settle()
    assert [topic for topic, _ in lab.broker.messages] == ["gatewayd/barn/devices/pump-2"]
    assert lab.broker.asked == 2


async def test_a_state_that_returns_while_another_is_on_its_way_is_sent(lab: Lab) -> None:
    lab.board.update("pump-1", state="succeeded", progress=100)
    await lab.settle()
    lab.broker.answers.clear()
    lab.board.update("pump-1", state="idle", progress=None)
    await lab.settle()
    lab.board.update("pump-1", state="succeeded", progress=100)
    await lab.settle()
    lab.broker.answers.set()
    await lab.settle()
    assert [document["state"] for document in lab.broker.of(PUMP)] == ["succeeded", "idle", "succeeded"]


async def test_progress_made_while_a_report_is_on_its_way_is_sent(lab: Lab) -> None:
    lab.board.update("pump-1", state="transferring", progress=0)
    await lab.settle()
    lab.broker.answers.clear()
    lab.reports.resend()
    await lab.settle()
    lab.board.update("pump-1", progress=7)
    await lab.settle()
    lab.broker.answers.set()
    await lab.settle()
    await lab.a_second_passes()
    assert [document["progress"] for document in lab.broker.of(PUMP)] == [0, 0, 7]


@pytest.mark.parametrize("lab", [False], indirect=True)
async def test_on_a_metered_link_progress_alone_is_not_sent(lab: Lab) -> None:
    lab.board.update("pump-1", state="transferring", progress=0)
    await lab.settle()
    for percent in range(1, 50):
        lab.board.update("pump-1", progress=percent)
        await lab.settle()
    assert not lab.naps
    assert [document["progress"] for document in lab.broker.of(PUMP)] == [0]
    lab.reports.resend()
    await lab.settle()
    lab.board.update("pump-1", state="succeeded", progress=100)
    await lab.settle()
    assert [document["progress"] for document in lab.broker.of(PUMP)] == [0, 49, 100]


@pytest.mark.parametrize("lab", [False], indirect=True)
async def test_what_arises_in_its_sleep_leaves_with_the_next_connection_the_newest_of_each(lab: Lab) -> None:
    lab.broker.there = False
    for name in ("pump-1", "pump-2"):
        for state in ("queued", "transferring", "succeeded"):
            lab.board.update(name, state=state)
            await lab.settle()
    lab.broker.there = True
    lab.reports.resend()
    await lab.settle()
    sent = [(topic.rsplit("/", 1)[1], json.loads(payload)["state"]) for topic, payload in lab.broker.messages]
    assert sorted(sent) == [("pump-1", "succeeded"), ("pump-2", "succeeded")]
