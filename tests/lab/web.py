"""The page's process before a real control server, whose operations are made up; all on one event loop."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gatewayd.control import messages, requests
from gatewayd.control.caller import Caller
from gatewayd.control.messages import DeviceView
from gatewayd.control.metrics_messages import LagHistogram, MetricsResult
from gatewayd.control.replies import Result
from gatewayd.control.server import ControlServer
from gatewayd.errors import RequestError
from gatewayd.web.passwords import set_password
from gatewayd.web.server import WebSettings, running

NOW = "2026-11-28T12:00:00Z"
# What a page of ours sends along with a POST.
OURS = {"X-Gatewayd": "page"}
DEADLINE_S = 60.0
PERSON, PASSWORD = "alice", "correct horse"


def a_view(name: str = "pump-1", state: str = "idle", **facts: Any) -> DeviceView:
    """A device as the socket shows it."""
    link = {"kind": "uart", "address": f"/dev/{name}", "baud": 115200, "health": "ok", "reason": None}
    nothing = dict.fromkeys(DeviceView.model_fields)
    usual = {
        "app_id": "pump",
        "link": link,
        "paused": False,
        "installed_version": "4.3.1",
        "latest_version": "4.3.1",
    }
    return DeviceView.model_validate(nothing | usual | {"name": name, "state": state} | facts)


class MadeUpGateway:
    """A gateway whose devices are what a test says. Keeps what it was told."""

    def __init__(self, *views: DeviceView) -> None:
        self.views = {view.name: view for view in views}
        self.commands: list[requests.AnyRequest] = []
        self.watchers = 0
        self.statuses = 0
        self.error: RequestError | None = None
        self.facts: dict[str, Any] = {}
        self._left = asyncio.Event()
        self._news: list[asyncio.Queue[messages.WatchResult]] = []

    def change(self, *views: DeviceView, removed: tuple[str, ...] = ()) -> None:
        """Let devices be another way, or go."""
        self.views |= {view.name: view for view in views}
        for name in removed:
            del self.views[name]
        for queue in self._news:
            queue.put_nowait(messages.WatchResult(gateway="barn-pi", devices=views, removed=removed))

    async def answer(self, request: requests.AnyRequest, caller: Caller) -> AsyncIterator[Result]:  # noqa: ARG002 - the protocol's
        match request:
            case requests.Watch():
                async for news in self._watch():
                    yield news
            case requests.Status():
                self.statuses += 1
                yield self.status()
            case requests.Devices():
                yield messages.DevicesResult(
                    gateway="barn-pi",
                    paused=None,
                    trouble=None,
                    devices=tuple(map(self._view, request.names)),
                )
            case requests.Metrics():
                yield self.metrics()
            case requests.Jobs():
                yield messages.JobsResult(jobs=(a_job(request.device or ""),))
            case requests.ExplainDevice():
                self._view(request.device)
                yield an_explanation(request.device)
            case _:
                self.commands.append(request)
                if self.error is not None:
                    raise self.error
                yield messages.OutcomesResult(outcomes=())

    def metrics(self) -> MetricsResult:
        lag = LagHistogram(bounds_s=(0.1,), counts=(1,), count=1, sum_s=0.0)
        return MetricsResult(
            status=self.status(),
            devices=tuple(self.views.values()),
            resident_bytes=1,
            loop_lag=lag,
            traffic=(),
            jobs_ended=(),
            messages=(),
            releases=(),
        )

    def status(self) -> messages.StatusResult:
        broker = {"host": "broker.lan", "port": 1883, "connected": True, "topics": ("/a/pump/u/4.3",)}
        lag = {"p50_ms": 0, "p99_9_ms": 0, "max_ms": 0, "samples": 0}
        usual = {
            "gateway": "barn-pi",
            "version": "1.0.0",
            "pid": 7,
            "started_at": NOW,
            "config_file": "/etc/gatewayd/config.yaml",
            "state_dir": "/var/lib/gatewayd",
            "devices": len(self.views),
            "active_jobs": 0,
            "paused": None,
            "broker": broker | {"subscribed": broker["topics"]} | self.facts.get("broker", {}),
            "loop_lag": lag,
            "watchdog_s": None,
            "trouble": None,
        }
        return messages.StatusResult.model_validate(
            usual | {k: v for k, v in self.facts.items() if k != "broker"}
        )

    async def _watch(self) -> AsyncIterator[Result]:
        queue: asyncio.Queue[messages.WatchResult] = asyncio.Queue()
        self._news.append(queue)
        self.watchers += 1
        try:
            yield messages.WatchResult(gateway="barn-pi", devices=tuple(self.views.values()), removed=())
            while True:
                yield await queue.get()
        finally:
            self.watchers -= 1
            self._news.remove(queue)
            self._left.set()

    async def until_left(self) -> None:
        """Wait until a subscription has ended."""
        async with asyncio.timeout(DEADLINE_S):
            await self._left.wait()

    def _view(self, name: str) -> DeviceView:
        if name not in self.views:
            raise RequestError(
                f"there is no device {name!r}", code="no_such_device", hint="gatewayctl devices"
            )
        return self.views[name]


def a_job(device: str) -> messages.JobView:
    nothing = dict.fromkeys(messages.JobView.model_fields, 0)
    said = {
        "device": device,
        "from_version": "4.3.0",
        "version": "4.3.1",
        "state": "succeeded",
        "topic": "/a/pump/u/4.3",
    }
    texts = {
        "code": None,
        "reason": None,
        "decision": "newer",
        "created_at": NOW,
        "updated_at": NOW,
        "image_sha256": "ab",
    }
    return messages.JobView.model_validate(nothing | said | texts)


def an_explanation(device: str) -> messages.ExplainDeviceResult:
    forecast = {
        "device": device,
        "topics": ["/a/pump/u/4.3"],
        "follows": True,
        "would": "nothing",
        "version": None,
        "refused": True,
        "code": "bad_signature",
        "reason": "the signature does not fit",
        "ends": None,
    }
    release = {
        "topic": "/a/pump/u/4.3",
        "version": "4.3.2",
        "size_bytes": 4096,
        "received_at": NOW,
        "code": "bad_signature",
        "reason": "the signature does not fit",
    }
    said = {"forecast": forecast, "paused": None, "releases": [release], "job": None}
    return messages.ExplainDeviceResult.model_validate(said)


class WebPage:
    """The page as a browser has it."""

    def __init__(self, address: str, browser: aiohttp.ClientSession, socket: Path) -> None:
        self.address = address
        self.browser = browser
        self.socket = socket

    @property
    def origin(self) -> str:
        return self.address.rstrip("/")

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.browser.get(self.address + path, headers=headers) as answer:
            return answer.status, await answer.json()

    async def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send what a page from here would send; a header that is "" is left out."""
        sent = (
            {"Origin": self.origin} | OURS | {key.replace("_", "-"): value for key, value in headers.items()}
        )
        sent = {key: value for key, value in sent.items() if value}
        async with self.browser.post(self.address + path, json=body, headers=sent) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else None

    async def sign_in(self, password: str = PASSWORD, user: str = PERSON) -> int:
        status, _ = await self.post("session", {"user": user, "password": password})
        return status

    @asynccontextmanager
    async def events(self) -> "AsyncIterator[Events]":
        async with self.browser.get(f"{self.address}events") as answer:
            assert answer.status == 200, answer.status
            yield Events(answer)


class Events:
    """What comes to one listener, put together as the page does."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.devices: dict[str, dict[str, Any]] = {}
        self.gateway: dict[str, Any] | None = None
        self.away: dict[str, str] | None = None
        self.beats = 0

    async def until(self, reached: Any) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not reached(self):
                await self.take()

    async def take(self) -> None:
        """Take one event."""
        lines = []
        while line := (await self.answer.content.readline()).rstrip(b"\n"):
            lines.append(line)
        assert lines, "the stream ended"
        if lines[0] == b"event: beat":
            self.beats += 1
            return
        news = json.loads(lines[0].removeprefix(b"data: "))
        if news["whole"]:
            self.devices = {}
        for name in news["removed"]:
            del self.devices[name]
        self.devices |= {device["name"]: device for device in news["devices"]}
        if "gateway" in news:
            self.gateway, self.away = news["gateway"], news["away"]


@asynccontextmanager
async def a_control_server(path: Path, gateway: MadeUpGateway) -> AsyncIterator[None]:
    server = ControlServer(path, gateway)
    server.open()
    task = asyncio.create_task(server.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        server.close()


@asynccontextmanager
async def a_page(folder: Path, **settings: Any) -> AsyncIterator[WebPage]:
    """Serve the page for a socket in this folder, on a free port."""
    wanted: dict[str, Any] = {"socket": folder / "control.sock", "host": "127.0.0.1", "port": 0} | settings
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address, too
    async with (
        running(WebSettings(**wanted)) as address,
        aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(DEADLINE_S)) as browser,
    ):
        yield WebPage(address, browser, wanted["socket"])


@asynccontextmanager
async def a_web(folder: Path, gateway: MadeUpGateway, **settings: Any) -> AsyncIterator[WebPage]:
    """A gateway, and a page for it."""
    async with a_control_server(folder / "control.sock", gateway), a_page(folder, **settings) as page:
        yield page


def a_password_file(folder: Path) -> Path:
    path = folder / "passwords"
    set_password(path, PERSON, PASSWORD)
    return path
