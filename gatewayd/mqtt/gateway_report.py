"""The gateway's own status as a retained message, sent when it has changed and on each new connection."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gatewayd.codes import Code
from gatewayd.errors import GatewaydError
from gatewayd.mqtt.reports import Publisher
from gatewayd.status.gateway import GatewayStatus

log = structlog.get_logger()

# How often it is looked at: many devices that change together make one message.
LOOK_S = 1.0


class GatewayReport:
    """Publishes what `read` returns on `topic`."""

    def __init__(
        self,
        read: Callable[[], GatewayStatus],
        publisher: Publisher,
        *,
        topic: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._read = read
        self._publisher = publisher
        self._topic = topic
        self._sleep = sleep
        self._sent: GatewayStatus | None = None
        self._due = asyncio.Event()

    def resend(self) -> None:
        """Send it whether it has changed or not: there is a new connection."""
        self._sent = None
        self._due.set()

    async def run(self) -> None:
        """Report changes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(), name="gateway report: look")
            tasks.create_task(self._send_when_due(), name="gateway report: send")

    async def _look(self) -> None:
        while True:
            if self._read() != self._sent:
                self._due.set()
            await self._sleep(LOOK_S)

    async def _send_when_due(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            await self._send(self._read())

    async def _send(self, status: GatewayStatus) -> None:
        """Send it. If there is no connection, it stays due, and goes out with the next one."""
        try:
            await self._publisher.publish(self._topic, status.to_bytes(), retain=True)
        except GatewaydError as error:
            if error.code != Code.PUBLISH_REFUSED:
                return
            log.warning("the broker refuses the gateway's report", code=error.code, reason=str(error))
        self._sent = status
