"""The board tells what changed, once, however slow the listener."""

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.status.board import DeviceStatus, StatusBoard, Subscription

START = datetime(2026, 11, 23, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self) -> datetime:
        self.seconds += 1
        return START + timedelta(seconds=self.seconds)


async def news(subscription: Subscription) -> list[str]:
    """The names a subscription has now."""
    names = []
    while True:
        try:
            async with asyncio.timeout(0):
                names.append(await anext(subscription))
        except TimeoutError:
            return names


async def test_a_change_of_nothing_is_no_news() -> None:
    board = StatusBoard(Clock())
    with board.subscribe() as subscription:
        board.update("a", state="idle")
        first = board.get("a")
        assert await news(subscription) == ["a"]
        board.update("a", state="idle")
        assert await news(subscription) == []
        assert board.get("a") == first


async def test_a_slow_reader_hears_each_name_once_and_sees_the_latest() -> None:
    board = StatusBoard(Clock())
    with board.subscribe() as subscription:
        for percent in range(100):
            board.update("a", state="transferring", progress=percent)
            board.update("b", state="idle", attempt=percent)
        assert await news(subscription) == ["a", "b"]
        latest = board.get("a")
        assert latest
        assert latest.progress == 99


async def test_removal_is_news_and_removing_nothing_is_not() -> None:
    board = StatusBoard(Clock())
    board.update("a", state="idle")
    with board.subscribe() as subscription:
        board.remove("a")
        board.remove("a")
        assert await news(subscription) == ["a"]
        assert board.get("a") is None
        assert board.all() == ()


async def test_a_closed_subscription_hears_nothing_and_costs_nothing() -> None:
    board = StatusBoard(Clock())
    with board.subscribe() as closed:
        pass
    board.update("a", state="idle")
    assert await news(closed) == []


def test_time_is_written_in_utc() -> None:
    at = datetime.fromisoformat("2026-11-23T12:00:00.5+02:00")
    assert DeviceStatus("a", "idle", updated_at=at).to_json()["updated_at"] == "2026-11-23T10:00:00.500Z"
    assert DeviceStatus("a", "idle").to_json()["updated_at"] is None


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["idle", "busy", None]), st.integers(0, 2)),
        max_size=30,
    ),
    st.integers(0, 30),
)
def test_a_reader_that_follows_the_news_ends_with_what_the_board_says(
    steps: list[tuple[str, str | None, int]], read_after: int
) -> None:
    async def scenario() -> None:
        board = StatusBoard(Clock())
        seen: dict[str, DeviceStatus | None] = {}
        with board.subscribe() as subscription:
            for number, (name, state, progress) in enumerate(steps):
                if state:
                    board.update(name, state=state, progress=progress)
                else:
                    board.remove(name)
                if number == read_after:
                    seen |= {name: board.get(name) for name in await news(subscription)}
            seen |= {name: board.get(name) for name in await news(subscription)}
        assert {name: status for name, status in seen.items() if status} == {
            status.name: status for status in board.all()
        }

    asyncio.run(scenario())
