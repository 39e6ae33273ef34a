"""What a gateway costs that has nothing to do: alone, and with all that shows its devices elsewhere.

The daemon with eight idle devices for a minute, and beside it the page's process where it is on. Processor
time is the scheduler's own count of both, which is finer than clock ticks.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from lab.farm import Farm
from lab.web_process import WebProcess

from suites.bench.daemons import fresh_farm, start_with_devices
from suites.bench.section import Scale, Section, markdown

DEVICES = 8
MINUTE_S, QUICK_S = 60.0, 3.0
SCRAPE_S = 15.0
# What a start leaves to do is over by then.
SETTLED_S = 5.0
ROWS = (
    "everything off",
    "Home Assistant",
    "the page, and nobody looks",
    "the page, and somebody looks",
    "metrics every 15 s",
    "all of it",
)


def _cpu_ms(pid: int) -> float:
    """Return what all threads of a process have taken of the processor."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def _rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def _look(address: str) -> None:
    """Read the page's events, as a browser does that shows it."""
    async with aiohttp.ClientSession() as browser, browser.get(f"{address}events") as answer:
        assert answer.status == HTTPStatus.OK
        async for _ in answer.content.iter_any():
            pass


async def _scrape(address: str) -> None:
    """Read the metrics, as Prometheus does."""
    async with aiohttp.ClientSession() as browser:
        while True:
            async with browser.get(f"{address}metrics") as answer:
                assert answer.status == HTTPStatus.OK
                await answer.read()
            await asyncio.sleep(SCRAPE_S)


@asynccontextmanager
async def _looked_at(*looks: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(look) for look in looks]
    try:
        yield
        for task in tasks:
            assert not task.done(), "a viewer has disconnected"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _measure(row: str, seconds: float) -> dict[str, Any]:
    async with fresh_farm() as farm:
        if row in ("Home Assistant", "all of it"):
            farm.gateway.config["mqtt"]["home_assistant"] = {}
        await start_with_devices(farm, DEVICES)
        with _a_page(farm, is_on=row not in ("everything off", "Home Assistant")) as page:
            looks = []
            if page is not None and row in ("the page, and somebody looks", "all of it"):
                looks.append(_look(page.address))
            if page is not None and row in ("metrics every 15 s", "all of it"):
                looks.append(_scrape(page.address))
            async with _looked_at(*looks):
                await asyncio.sleep(SETTLED_S)
                return {"what": row} | await _of_processes(farm, page, seconds)


async def _of_processes(farm: Farm, page: WebProcess | None, seconds: float) -> dict[str, Any]:
    assert farm.gateway.process is not None
    pids = {"daemon": farm.gateway.process.pid}
    if page is not None:
        pids["page"] = page.pid
    before = {name: _cpu_ms(pid) for name, pid in pids.items()}
    await asyncio.sleep(seconds)
    taken = {name: (_cpu_ms(pid) - before[name]) * MINUTE_S / seconds for name, pid in pids.items()}
    found = {f"{name}_cpu_ms": round(ms) for name, ms in taken.items()}
    return found | {f"{name}_mib": round(_rss_mib(pid), 1) for name, pid in pids.items()}


@contextmanager
def _a_page(farm: Farm, *, is_on: bool) -> Iterator[WebProcess | None]:
    if not is_on:
        yield None
        return
    page = WebProcess(farm.folder)
    page.start()
    try:
        yield page
    finally:
        page.stop()


async def run_house(scale: Scale) -> list[dict[str, Any]]:
    """Measure each row once: a minute is a mean of many turns already."""
    return [await _measure(row, QUICK_S if scale.is_quick else MINUTE_S) for row in ROWS]


def house_table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    keys = ("daemon_mib", "daemon_cpu_ms", "page_mib", "page_cpu_ms")
    return markdown(
        "on, daemon MiB:, daemon CPU ms a minute:, page MiB:, page CPU ms a minute:",
        ([row["what"], *(row.get(key, "") for key in keys)] for row in rows),
    )


SECTION = Section("house", "A gateway that has nothing to do", run_house, house_table)
