"""The daemon's state as the page's process knows it: one subscription, whatever the number of listeners.

While nobody listens there is no subscription either, and the daemon has no work with the page. A listener
remembers a version and takes all that is newer in one piece: a slow one misses states in between, never the
last, and costs nothing while it is slow.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import structlog

from gatewayd.control.async_client import ask, subscribe
from gatewayd.control.messages import StatusResult, WatchResult
from gatewayd.control.requests import Status, Watch
from gatewayd.errors import GatewaydError
from gatewayd.web.cards import device_card, gateway_card

log = structlog.get_logger()

# The broker's connection and a pause of everything are not in a subscription.
STATUS_INTERVAL_S = 5.0
STATUS_LIMIT_S = 10.0
RECONNECT_S = 1.0
# A page that is loaded again does not begin with a new subscription.
LINGER_S = 5.0


class Mirror:
    """Follows the daemon while somebody listens. For use on one event loop."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.version = 0
        self.listeners = 0
        self._gateway: dict[str, Any] = {}
        self._away: dict[str, str] | None = None
        self._devices: dict[str, dict[str, Any]] = {}
        # The version of the last change, by device, and of the gateway's own.
        self._changed: dict[str, int] = {}
        self._gateway_changed = 0
        self._removed: dict[str, int] = {}
        self._pieces: dict[int, bytes] = {}
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()
        self._look = asyncio.Event()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Count a listener; the subscription is there while there are any."""
        self.listeners += 1
        self._wanted.set()
        try:
            yield
        finally:
            self.listeners -= 1
            if not self.listeners:
                self._wanted.clear()

    def look_again(self) -> None:
        """Ask the daemon for its status now, because it was told to change something."""
        self._look.set()

    async def news(self, since: int) -> tuple[int, bytes]:
        """Wait for something newer than `since`; return its version, and JSON with all that has changed."""
        while self.version <= since:
            await self._news.wait()
        return self.version, self._piece(since)

    async def run(self) -> None:
        """Follow the daemon until cancelled."""
        while True:
            await self._wanted.wait()
            follow = asyncio.create_task(self._follow(), name="follow")
            try:
                await self._until_unwanted(follow)
            finally:
                follow.cancel()
                await asyncio.wait([follow])
            if not follow.cancelled():
                follow.result()

    async def _until_unwanted(self, follow: "asyncio.Task[None]") -> None:
        while self.listeners and not follow.done():
            await asyncio.wait([follow], timeout=LINGER_S)

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_once()
            except GatewaydError as error:
                self._lose(error)
            await asyncio.sleep(RECONNECT_S)

    async def _follow_once(self) -> None:
        """Follow until either of the two fails. Not a TaskGroup: with an error, it loses a cancellation."""
        tasks = [asyncio.create_task(self._follow_status()), asyncio.create_task(self._follow_devices())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _follow_status(self) -> None:
        while True:
            self._look.clear()
            status = await ask(self.socket, Status(), StatusResult, timeout_s=STATUS_LIMIT_S)
            card = gateway_card(status)
            if card != self._gateway or self._away is not None:
                if self._away is not None:
                    log.info("gatewayd answers again")
                self._gateway, self._away = card, None
                self._gateway_changed = self._next()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_INTERVAL_S):
                    await self._look.wait()

    async def _follow_devices(self) -> None:
        is_first = True
        async with contextlib.aclosing(subscribe(self.socket, Watch(), WatchResult)) as answers:
            async for answer in answers:
                gone = set(answer.removed)
                if is_first:
                    gone |= self._devices.keys() - {device.name for device in answer.devices}
                is_first = False
                self._take(answer, gone)

    def _take(self, answer: WatchResult, gone: set[str]) -> None:
        cards = {view.name: device_card(view) for view in answer.devices}
        changed = {name: card for name, card in cards.items() if self._devices.get(name) != card}
        gone &= self._devices.keys()
        if not changed and not gone:
            return
        version = self._next()
        for name in gone:
            del self._devices[name], self._changed[name]
            self._removed[name] = version
        for name in changed:
            self._removed.pop(name, None)
            self._changed[name] = version
        self._devices |= changed

    def _lose(self, error: GatewaydError) -> None:
        away = {"code": error.code, "reason": str(error)}
        if away != self._away:
            log.warning("gatewayd does not answer", code=error.code, reason=error.message)
            self._away = away
            self._gateway_changed = self._next()

    def _next(self) -> int:
        """Begin a version, and wake who waits for one."""
        self.version += 1
        self._pieces.clear()
        self._news.set()
        self._news = asyncio.Event()
        return self.version

    def _piece(self, since: int) -> bytes:
        """Return what is newer than `since`; listeners that are equally far share it."""
        if since not in self._pieces:
            piece: dict[str, Any] = {
                "version": self.version,
                "whole": since == 0,
                "devices": [self._devices[name] for name, at in self._changed.items() if at > since],
                "removed": [name for name, at in self._removed.items() if at > since > 0],
            }
            if self._gateway_changed > since:
                piece |= {"gateway": self._gateway or None, "away": self._away}
            self._pieces[since] = json.dumps(piece, separators=(",", ":")).encode()
        return self._pieces[since]


async def stream(mirror: Mirror, beat_s: float) -> AsyncIterator[bytes]:
    """Yield server-sent events for one listener: everything, then what changes, and a beat in a silence."""
    since = 0
    while True:
        try:
            async with asyncio.timeout(beat_s):
                since, piece = await mirror.news(since)
        except TimeoutError:
            yield b"event: beat\ndata:\n\n"
        else:
            yield b"data: " + piece + b"\n\n"
