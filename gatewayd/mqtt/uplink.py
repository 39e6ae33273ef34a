"""All that hangs on one broker: the session, what comes in, and what is reported."""

import asyncio
from collections.abc import Callable

from gatewayd.config import Periodic, Settings
from gatewayd.mqtt.intake import Intake, ReleaseStore
from gatewayd.mqtt.reports import Reports
from gatewayd.mqtt.router import Router
from gatewayd.mqtt.session import MqttSession
from gatewayd.mqtt.topics import GatewayTopics
from gatewayd.status.board import StatusBoard

MIB = 1024 * 1024


class Uplink:
    """Messages from the broker to the store, statuses from the board to the broker; `run` it once."""

    def __init__(
        self,
        settings: Settings,
        store: ReleaseStore,
        board: StatusBoard,
        *,
        on_change: Callable[[], None],
        replay_retained: bool,
    ) -> None:
        topics = GatewayTopics.of(settings)
        intake = Intake(
            store,
            max_message_bytes=settings.mqtt.max_message_mib * MIB,
            on_change=on_change,
        )
        self.session = MqttSession(
            settings.mqtt,
            topics=topics,
            on_message=Router([intake.route(settings.mqtt.ota_topic)]).accept,
            on_connected=self._connected,
            replay_retained=replay_retained,
        )
        self._reports = Reports(
            board,
            self.session,
            topics=topics,
            with_progress=not isinstance(settings.mqtt.connect, Periodic),
        )

    def _connected(self) -> None:
        self._reports.resend()

    async def run(self) -> None:
        """Until cancelled; then the broker hears `offline`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reports.run(), name="reports")
            tasks.create_task(self.session.run(), name="mqtt")
