"""What Home Assistant is told: on each change and each connection, and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from structlog.testing import capture_logs

from gatewayd.mqtt.home_assistant import Discovery
from gatewayd.mqtt.home_assistant_report import HomeAssistantReport
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.topics import GatewayTopics
from gatewayd.status.board import StatusBoard

TOPICS = GatewayTopics("gatewayd/barn")
SEARCH = "ha/device/barn/+/config"


def topic(name: str) -> str:
    return f"ha/device/barn/{name}/config"


def one(name: str, offered: str | None = None) -> Discovery:
    return Discovery(TOPICS, "barn", name, offered=offered)


class Lab:
    """A broker that remembers, may be away or say no; seconds pass when a test says so."""

    def __init__(self) -> None:
        self.wanted = {topic("a"): one("a"), topic("b"): one("b")}
        self.at_broker: dict[str, bytes] = {}
        self.messages: list[tuple[str, bytes]] = []
        self.refusal: str | None = None
        self.searches: list[str] = []
        self.board = StatusBoard(lambda: datetime(2026, 11, 28, tzinfo=UTC))
        self.search_ends = asyncio.Event()
        self.search_ends.set()
        self._ticks = asyncio.Semaphore(0)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        assert retain
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise BrokerError("no", code=self.refusal)
        self.messages.append((topic, payload))
        self.at_broker[topic] = payload
        if not payload:
            del self.at_broker[topic]

    async def retained(self, topic_filter: str) -> frozenset[str]:
        self.searches.append(topic_filter)
        await self.search_ends.wait()
        if self.refusal == "not_connected":
            raise BrokerError("no")
        return frozenset(self.at_broker)

    async def a_second_passes(self) -> None:
        for _ in range(2):  # of those who sleep
            self._ticks.release()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(40):
            await asyncio.sleep(0)

    async def nap(self, _: float) -> None:
        await self._ticks.acquire()

    def has(self, *names: str) -> bool:
        return self.at_broker == {topic(name): self.wanted[topic(name)].to_bytes() for name in names}


@asynccontextmanager
async def running(
    lab: Lab, *, search: str = SEARCH, held: dict[str, str] | None = None
) -> AsyncIterator[HomeAssistantReport]:
    report = HomeAssistantReport(lambda: lab.wanted, lab, lab.board, search=search, held=held, sleep=lab.nap)
    task = asyncio.create_task(report.run())
    await lab.a_second_passes()
    yield report
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_change_is_sent_once_and_alone() -> None:
    lab = Lab()
    async with running(lab):
        assert lab.has("a", "b")
        lab.messages.clear()
        lab.wanted = {**lab.wanted, topic("b"): one("b", "4.3.2")}
        for _ in range(3):
            await lab.a_second_passes()
        assert lab.messages == [(topic("b"), one("b", "4.3.2").to_bytes())]


async def test_an_offer_is_sent_at_once_and_progress_is_not_a_reason() -> None:
    lab = Lab()
    async with running(lab):
        lab.messages.clear()
        lab.wanted = {**lab.wanted, topic("b"): one("b", "4.3.2")}
        lab.board.update("b", latest_version="4.3.2")
        await lab.settle()
        assert lab.messages == [(topic("b"), one("b", "4.3.2").to_bytes())]
        lab.wanted = {**lab.wanted, topic("b"): one("b", "4.3.3")}
        lab.board.update("b", progress=50)
        await lab.settle()
        assert len(lab.messages) == 1


async def test_a_new_connection_gets_everything_again() -> None:
    lab = Lab()
    async with running(lab) as report:
        lab.at_broker.clear()
        report.resend()
        await lab.a_second_passes()
        assert lab.has("a", "b")


async def test_what_is_removed_leaves_no_ghost() -> None:
    lab = Lab()
    async with running(lab):
        del lab.wanted[topic("a")]
        await lab.a_second_passes()
        assert lab.has("b")


async def test_a_topic_that_gets_another_device_is_emptied_between() -> None:
    lab = Lab()
    async with running(lab):
        lab.messages.clear()
        lab.wanted = {topic("a"): one("c"), topic("b"): one("b"), topic("d"): one("a")}
        await lab.a_second_passes()
        assert lab.messages == [
            (topic("a"), b""),
            (topic("a"), one("c").to_bytes()),
            (topic("d"), one("a").to_bytes()),
        ]


async def test_ghosts_of_an_earlier_process_are_looked_for_once() -> None:
    lab = Lab()
    lab.at_broker = {topic("ghost"): b"{}", topic("a"): b"old"}
    async with running(lab) as report:
        await lab.a_second_passes()
        assert lab.has("a", "b")
        report.resend()
        await lab.a_second_passes()
        assert lab.searches == [SEARCH]


async def test_a_new_offer_does_not_wait_for_the_search() -> None:
    """It takes seconds; Home Assistant would send the version that was offered before."""
    lab = Lab()
    lab.search_ends.clear()
    lab.at_broker = {topic("ghost"): b"{}"}
    async with running(lab):
        lab.wanted[topic("a")] = one("a", "4.3.2")
        await lab.a_second_passes()
        assert lab.at_broker[topic("a")] == one("a", "4.3.2").to_bytes()
        lab.search_ends.set()
        await lab.a_second_passes()
        assert lab.has("a", "b")


async def test_the_search_is_made_up_for_with_the_next_connection() -> None:
    lab = Lab()
    lab.at_broker, lab.refusal = {topic("ghost"): b"{}"}, "not_connected"
    async with running(lab) as report:
        assert lab.messages == []
        lab.refusal = None
        report.resend()
        await lab.a_second_passes()
        assert lab.has("a", "b")


async def test_switched_off_it_empties_what_an_earlier_report_sent_and_looks_for_nothing() -> None:
    lab = Lab()
    async with running(lab) as first:
        await lab.a_second_passes()
        held = dict(first.held)
    lab.wanted = {}
    async with running(lab, search="", held=held) as report:
        assert lab.at_broker == {}
        assert not report.held
    assert lab.searches == [SEARCH]
    assert not HomeAssistantReport(dict, lab, lab.board).is_needed


async def test_what_the_broker_forbids_is_said_once() -> None:
    lab = Lab()
    lab.refusal = "publish_refused"
    with capture_logs() as log:
        async with running(lab) as report:
            for _ in range(3):
                report.resend()
                await lab.a_second_passes()
    assert [line["code"] for line in log] == ["publish_refused"] * 2
