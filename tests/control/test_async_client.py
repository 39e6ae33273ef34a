"""The asking end on an event loop: the same answers, and the same errors."""

import asyncio
import socket
from contextlib import aclosing
from pathlib import Path

import pytest
from lab.control_server import NOTHING, FakeOperations, WatchedOperations, serving

from gatewayd.control.async_client import ask, subscribe
from gatewayd.control.client import DaemonUnreachable
from gatewayd.control.messages import OutcomesResult
from gatewayd.control.requests import Devices, Watch
from gatewayd.errors import RequestError


async def test_one_answer(tmp_path: Path) -> None:
    with serving(tmp_path, FakeOperations()) as path:
        assert await ask(path, Devices(), OutcomesResult) == NOTHING


async def test_a_refusal_keeps_its_code_and_its_next_step(tmp_path: Path) -> None:
    refusal = RequestError("there is no job 7", code="no_such_job", hint="gatewayctl jobs")
    with serving(tmp_path, FakeOperations(refusal)) as path, pytest.raises(RequestError) as error:
        await ask(path, Devices(), OutcomesResult)
    assert (error.value.code, str(error.value)) == ("no_such_job", "there is no job 7 (gatewayctl jobs)")


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="No such file"):
        await ask(tmp_path / "control.sock", Devices(), OutcomesResult)


async def test_a_subscription_yields_until_the_daemon_is_gone(tmp_path: Path) -> None:
    with serving(tmp_path, FakeOperations(NOTHING, NOTHING)) as path:
        news = subscribe(path, Watch(), OutcomesResult)
        assert [await anext(news), await anext(news)] == [NOTHING, NOTHING]
        with pytest.raises(DaemonUnreachable, match="closed the connection"):
            await anext(news)


async def test_who_stops_listening_leaves_nothing_open(tmp_path: Path) -> None:
    operations = WatchedOperations()
    with serving(tmp_path, operations) as path:
        async with aclosing(subscribe(path, Watch(), OutcomesResult)) as answers:
            assert await anext(answers) == NOTHING
        assert await asyncio.to_thread(operations.left.wait, 20)


async def test_waiting_for_news_may_be_given_up(tmp_path: Path) -> None:
    operations = WatchedOperations()
    with serving(tmp_path, operations) as path:
        async with aclosing(subscribe(path, Watch(), OutcomesResult)) as answers:
            await anext(answers)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(answers)


async def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
        deaf.listen()
        with pytest.raises(DaemonUnreachable, match="does not answer: timed out"):
            await ask(path, Devices(), OutcomesResult, timeout_s=0.05)
