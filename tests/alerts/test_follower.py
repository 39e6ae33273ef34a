"""Following a made-up gateway on a real socket, and telling by a real program."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from lab.teller import Teller
from lab.web import MadeUpGateway, a_control_server, a_job, a_view

from gatewayd.alerts import events, follower
from gatewayd.alerts.follower import Follower
from gatewayd.alerts.memory import Memory
from gatewayd.alerts.program import Ending, Program
from gatewayd.control import messages, requests
from gatewayd.control.caller import Caller
from gatewayd.control.replies import Result

DEADLINE_S = 120.0
LATER = "2026-11-28T13:00:00Z"


class Gateway(MadeUpGateway):
    """One with jobs of its own."""

    jobs: tuple[messages.JobView, ...] = ()

    async def answer(self, request: requests.AnyRequest, caller: Caller) -> AsyncIterator[Result]:
        if isinstance(request, requests.Jobs):
            shown = [ended(one.name, one.job, state=one.state) for one in self.views.values() if one.job]
            yield messages.JobsResult(jobs=(*shown, *self.jobs))
            return
        async for result in super().answer(request, caller):
            yield result


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "GATHER_S", 0.01)
    monkeypatch.setattr(follower, "RECONNECT_S", 0.01)
    monkeypatch.setattr(follower, "STATUS_INTERVAL_S", 0.01)
    monkeypatch.setattr(follower, "back_off_s", lambda *_, **__: 0.01)


@asynccontextmanager
async def following(
    folder: Path, gateway: Gateway, teller: Teller, limit_s: float = DEADLINE_S
) -> AsyncIterator[None]:
    memory = Memory.load(folder / "state.json")
    program = Program(teller.path, limit_s)
    async with a_control_server(folder / "control.sock", gateway):
        work = Follower(folder / "control.sock", events.NAMES, program, memory).run()
        task = asyncio.create_task(work)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def until(reached: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not reached():  # noqa: ASYNC110 - files and processes ring no bell
            await asyncio.sleep(0.02)


def failed(name: str, job: int = 7) -> messages.DeviceView:
    return a_view(name, "failed", job=job, code="reverted", latest_version="4.3.2")


def ended(name: str, job: int, at: str = LATER, state: str = "failed") -> messages.JobView:
    told = {"id": job, "state": state, "code": "reverted", "updated_at": at}
    return a_job(name).model_copy(update=told)


async def test_a_change_is_told_once_and_not_again_after_a_restart(tmp_path: Path) -> None:
    gateway, teller = Gateway(a_view("pump-1"), a_view("pump-2")), Teller(tmp_path)
    async with following(tmp_path, gateway, teller):
        await until(lambda: gateway.watchers)
        gateway.change(failed("pump-1"))
        await until(teller.runs)
        gateway.change(failed("pump-1").model_copy(update={"reason": "told in other words"}))
        gateway.change(a_view("pump-2", "refused", code="rollback", latest_version="4.3.2"))
        await until(lambda: len(teller.runs()) > 1)
    assert teller.text.startswith("pump-2 refuses 4.3.2 (rollback)\n  Next: ")
    async with following(tmp_path, gateway, teller):
        await until(lambda: gateway.watchers)
        gateway.change(failed("pump-1", job=8))
        await until(lambda: len(teller.runs()) > 2)
    assert teller.told() == [
        ("failed", "pump-1", "reverted"),
        ("refused", "pump-2", "rollback"),
        ("failed", "pump-1", "reverted"),
    ]


async def test_what_failed_and_passed_meanwhile_is_told(tmp_path: Path) -> None:
    gateway, teller = Gateway(a_view("pump-1")), Teller(tmp_path)
    gateway.jobs = (ended("pump-1", 3, "2026-11-28T11:00:00Z"), ended("gone-1", 2, LATER))
    state = tmp_path / "state.json"
    async with following(tmp_path, gateway, teller):
        await until(state.exists)
    gateway.jobs = (ended("pump-1", 4), *gateway.jobs)
    async with following(tmp_path, gateway, teller):
        await until(teller.runs)
        gateway.change(failed("pump-1", 5))
        await until(lambda: len(teller.runs()) > 1)
    assert teller.told() == [("failed", "pump-1", "reverted")] * 2, "4 and 5; not what the first start found"


@pytest.mark.attack("hundreds of failures at once, for hundreds of mails")
async def test_too_much_is_told_in_one_piece(tmp_path: Path) -> None:
    views = [failed(f"pump-{number}") for number in range(follower.BURST + 3)]
    teller = Teller(tmp_path)
    async with following(tmp_path, Gateway(*views), teller):
        await until(teller.runs)
    (run,) = teller.runs()
    assert (run["EVENT"], run["COUNT"], run["DEVICE"]) == ("several", "8", "")
    assert run["SUMMARY"] == "barn-pi: pump-0: the update to 4.3.2 failed (reverted), and 7 more"
    assert all(view.name in teller.text for view in views)


async def test_a_program_that_fails_is_run_again(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    teller = Teller(tmp_path, first=f"echo >>'{tries}'; [ $(wc -l <'{tries}') -gt 4 ] || exit 1")
    async with following(tmp_path, Gateway(failed("pump-1")), teller):
        await until(teller.runs)
        await until(lambda: Memory.load(tmp_path / "state.json").told)
    assert len(tries.read_text()) == 5
    assert teller.told() == [("failed", "pump-1", "reverted")]


async def test_a_program_that_hangs_is_ended_with_what_it_started_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endings: list[Ending] = []
    run = Program.run

    async def run_and_note(self: Program, environment: dict[str, str], text: str) -> Ending:
        endings.append(await run(self, environment, text))
        return endings[-1]

    monkeypatch.setattr(Program, "run", run_and_note)
    pids = tmp_path / "pids"
    teller = Teller(tmp_path, first=f"sleep 1000 & echo $! >>'{pids}'; wait")
    gateway = Gateway(failed("pump-1"))
    async with following(tmp_path, gateway, teller, limit_s=1.0):
        await until(lambda: Memory.load(tmp_path / "state.json").told)
        assert endings == [Ending.TIMED_OUT] * follower.TIMED_OUT_TRIES
        # On a busy machine the shell may come to nothing before it is ended.
        started = [int(pid) for pid in pids.read_text().split()]
        assert started
        await until(lambda: not any(_is_alive(pid) for pid in started))
    assert teller.runs() == []


async def test_a_program_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    aside = teller.path.rename(tmp_path / "aside")
    gateway = Gateway(a_view("pump-1"))
    async with following(tmp_path, gateway, teller):
        await until(lambda: gateway.watchers)
        gateway.change(failed("pump-1"))
        await asyncio.sleep(0.1)
        aside.rename(teller.path)
        await until(teller.runs)


async def test_what_is_running_when_it_stops_is_finished_and_remembered(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    teller = Teller(tmp_path, first=f"touch '{begun}'; sleep 0.5")
    async with following(tmp_path, Gateway(failed("pump-1")), teller):
        await until(begun.exists)
    assert teller.told() == [("failed", "pump-1", "reverted")]
    assert Memory.load(tmp_path / "state.json").is_told(events.Event("failed", "pump-1", "7"))


async def test_trouble_of_the_gateway_is_told_each_time_it_comes(tmp_path: Path) -> None:
    gateway, teller = Gateway(a_view("pump-1")), Teller(tmp_path)
    async with following(tmp_path, gateway, teller):
        gateway.facts["trouble"] = {"code": "disk_full", "reason": "no room"}
        await until(teller.runs)
        gateway.facts["trouble"] = None
        asked = gateway.statuses
        await until(lambda: gateway.statuses > asked + 2)
        gateway.facts["trouble"] = {"code": "disk_full", "reason": "no room"}
        await until(lambda: len(teller.runs()) > 1)
    assert teller.told() == [("trouble", "", "disk_full")] * 2


async def test_only_what_is_wanted_is_told(tmp_path: Path) -> None:
    teller, memory = Teller(tmp_path), Memory()
    gateway = Gateway(failed("pump-1"), a_view("pump-2", "offered", job=9, latest_version="4.3.2"))
    async with a_control_server(tmp_path / "control.sock", gateway):
        work = Follower(
            tmp_path / "control.sock", ["offered"], Program(teller.path, DEADLINE_S), memory
        ).run()
        task = asyncio.create_task(work)
        await until(lambda: memory.told)
        task.cancel()
        await asyncio.wait([task])
    assert teller.told() == [("offered", "pump-2", "")]
    assert gateway.statuses == 0, "nobody wants to know of trouble"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
