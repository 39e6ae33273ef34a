"""Publishes device statuses as retained messages. Level-triggered, so nothing is lost without a broker.

A changed device is in one of two sets: `_progress` holds those with no other change than progress, and moves
them to `_due` once a second; `_due` is sent immediately. Each status is read from the board when it is sent.
What could not be sent stays due, and with every new connection everything is due. On a metered link
(`with_progress` false) progress alone is not sent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from gatewayd.codes import Code
from gatewayd.delivery.progress import ProgressThrottle
from gatewayd.errors import GatewaydError
from gatewayd.mqtt.topics import GatewayTopics
from gatewayd.status.board import DeviceStatus, StatusBoard

log = structlog.get_logger()


class Publisher(Protocol):
    """What reports need from a session."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish and wait until the broker has it."""
        ...


class Reports:
    """Publishes each device's status on its topic."""

    def __init__(
        self,
        board: StatusBoard,
        publisher: Publisher,
        *,
        topics: GatewayTopics,
        with_progress: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._board = board
        self._publisher = publisher
        self._topics = topics
        self._with_progress = with_progress
        self._sent: dict[str, DeviceStatus | None] = {}
        self._refusals: dict[str, str] = {}  # as they were logged
        self._due: dict[str, None] = {}
        self._something_due = asyncio.Event()
        self._progress = ProgressThrottle(sleep)

    def resend(self) -> None:
        """Send every device again: a new connection may lead to a broker that has lost everything."""
        for status in self._board.all():
            self._due[status.name] = None
        self._something_due.set()

    async def run(self) -> None:
        """Report changes until cancelled."""
        with self._board.subscribe() as changes:
            self.resend()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_what_is_due(), name="reports: send")
                tasks.create_task(self._release_progress(), name="reports: progress")
                async for name in changes:
                    self._sort(name)

    def _sort(self, name: str) -> None:
        status, sent = self._board.get(name), self._sent.get(name)
        if status and sent and status.differs_in_progress_only(sent):
            if not self._with_progress:
                return
            self._progress.hold(name)
        else:
            self._due[name] = None
            self._something_due.set()

    async def _release_progress(self) -> None:
        while True:
            self._due |= await self._progress.release()
            self._something_due.set()

    async def _send_what_is_due(self) -> None:
        while True:
            await self._something_due.wait()
            self._something_due.clear()
            while self._due:
                name = next(iter(self._due))
                del self._due[name]
                if not await self._send(name):
                    self._due[name] = None
                    break

    async def _send(self, name: str) -> bool:
        """Send the latest status of one device; False: try again with the next connection."""
        status = self._board.get(name)
        # Later changes are compared with this status, which is about to be sent.
        self._progress.forget(name)
        if status:
            self._sent[name] = status
        else:
            self._sent.pop(name, None)
        try:
            await self._publisher.publish(
                self._topics.device(name), status.to_bytes() if status else b"", retain=True
            )
        except GatewaydError as error:
            if error.code != Code.PUBLISH_REFUSED:
                return False
            if self._refusals.get(name) != str(error):
                self._refusals[name] = str(error)
                log.warning("the broker refuses a report", device=name, code=error.code, reason=str(error))
        else:
            self._refusals.pop(name, None)
        return True
