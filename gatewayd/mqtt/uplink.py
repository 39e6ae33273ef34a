"""Everything that depends on the broker: the session, the intake of messages, and the reports.

A reload may name another broker. The session is then replaced by one with that broker, for the same topics.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Protocol

import structlog

from gatewayd.config import Mqtt, Periodic, Settings
from gatewayd.mqtt.gateway_report import GatewayReport
from gatewayd.mqtt.home_assistant import discoveries, discovery_filter
from gatewayd.mqtt.home_assistant_report import HomeAssistantReport
from gatewayd.mqtt.install_commands import Install, InstallCommands
from gatewayd.mqtt.intake import Intake, MessageChecks, ReleaseStore
from gatewayd.mqtt.reports import Reports
from gatewayd.mqtt.retained_check import RetainedCheck, RetentionStore
from gatewayd.mqtt.router import Router
from gatewayd.mqtt.session import MqttSession
from gatewayd.mqtt.subscriptions import Subscriptions
from gatewayd.mqtt.topics import GatewayTopics
from gatewayd.status.board import StatusBoard
from gatewayd.status.gateway import BrokerStatus, GatewayStatus

log = structlog.get_logger()

MIB = 1024 * 1024


class UplinkStore(ReleaseStore, RetentionStore, Protocol):
    """What hangs on the broker needs of the store."""


class Uplink:
    """Messages from the broker to the store, statuses from the board to the broker; `run` it once.

    `settings` returns those in force; `gateway` the gateway's own status; `on_change` is called when a
    message was stored, withdrawn or refused; `checks` judges messages; `count` counts them by outcome;
    `install` carries out commands that come by MQTT.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        store: UplinkStore,
        board: StatusBoard,
        *,
        gateway: Callable[[], GatewayStatus],
        on_change: Callable[[], None],
        checks: MessageChecks,
        install: Install,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._gateway = gateway
        self._install = install
        self._checks = checks
        self._count = count
        self._settings = settings
        self._store = store
        self._board = board
        self._on_change = on_change
        self._topics: frozenset[str] | None = None
        self._asked_again: frozenset[str] = frozenset()
        self._another = asyncio.Event()
        self._broker = self._make_broker(self._new_subscriptions())

    async def run(self) -> None:
        """Serve one broker after the other until cancelled; then publish `offline`."""
        while True:
            self._another.clear()
            running = asyncio.create_task(self._broker.run(), name="uplink: run")
            changed = asyncio.create_task(self._another.wait(), name="uplink: changed")
            try:
                await asyncio.wait([running, changed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                running.cancel()
                changed.cancel()
                await asyncio.wait([running])
            if not running.cancelled():
                running.result()
            last = self._broker
            is_same = last.identity == _identity(self._settings().mqtt)
            self._broker = self._make_broker(
                last.session.subscriptions if is_same else self._new_subscriptions(),
                last.discovered if is_same else {},
            )
            if self._topics is not None:
                self._broker.session.set_topics(self._topics)

    def reconnect(self) -> None:
        """Disconnect, and connect with the settings that are now in force."""
        self._another.set()

    def wake(self) -> None:
        """Connect now if the session sleeps."""
        self._broker.session.wake()

    def follow(
        self, topics: frozenset[str], damaged: Collection[str], judged_otherwise: Collection[str] = ()
    ) -> None:
        """Subscribe to exactly these topics; request again messages that are damaged or were not kept."""
        session = self._broker.session
        lost = topics.intersection([*damaged, *judged_otherwise])
        for topic in lost - self._asked_again:
            if topic in damaged:
                log.warning("a stored message is damaged; it is requested from the broker again", topic=topic)
            else:
                log.info(
                    "what was refused under other settings is requested from the broker again", topic=topic
                )
            session.ask_again(topic)
        self._asked_again, self._topics = lost, topics
        session.set_topics(topics)

    def status(self) -> BrokerStatus:
        """Return the state of the connection and the subscriptions."""
        session = self._broker.session
        return BrokerStatus(
            is_connected=session.is_connected,
            online_since=self._broker.online_since if session.is_connected else None,
            wanted=self._topics or frozenset(),
            granted=session.subscribed_topics,
            next_connection_in_s=session.next_connection_in_s,
            refused=session.refused_messages,
            left_out=session.left_out,
        )

    def is_unconfirmed(self, topic: str) -> bool:
        """Whether an update that was not begun should wait for the broker's word on this topic."""
        check = self._broker.session.subscriptions.check
        return check is not None and check.is_unconfirmed(topic)

    def _new_subscriptions(self) -> Subscriptions:
        marker = GatewayTopics.of(self._settings()).marker
        return Subscriptions(check=RetainedCheck(self._store, marker, on_change=self._on_change))

    def _make_broker(
        self, subscriptions: Subscriptions, discovered: Mapping[str, str] | None = None
    ) -> "_Broker":
        """Make one; one that continues the last goes on with its session: nothing is downloaded twice."""
        return _Broker(
            self._settings,
            self._store,
            self._board,
            gateway=self._gateway,
            on_change=self._on_change,
            checks=self._checks,
            count=self._count,
            install=self._install,
            subscriptions=subscriptions,
            discovered=discovered or {},
        )


def _identity(mqtt: Mqtt) -> tuple[str, int, str | None]:
    """Return what identifies a session at a broker."""
    return mqtt.host, mqtt.port, mqtt.client_id


class _Broker:
    """Everything that depends on one broker; `run` it once.

    `subscriptions` and `discovered` are those of the last one, if this one continues it.
    """

    def __init__(  # noqa: PLR0913 - what the uplink was given, and what is carried over
        self,
        in_force: Callable[[], Settings],
        store: ReleaseStore,
        board: StatusBoard,
        *,
        gateway: Callable[[], GatewayStatus],
        on_change: Callable[[], None],
        checks: MessageChecks,
        count: Callable[[str], None],
        install: Install,
        subscriptions: Subscriptions,
        discovered: Mapping[str, str],
    ) -> None:
        settings = in_force()
        self.identity = _identity(settings.mqtt)
        self.online_since: datetime | None = None
        topics = GatewayTopics.of(settings)
        check = subscriptions.check
        intake = Intake(
            store,
            max_message_bytes=settings.mqtt.max_message_mib * MIB,
            on_change=on_change,
            on_stored=check.stored if check else lambda: None,
            checks=checks,
            count=count,
        )
        home_assistant = settings.mqtt.home_assistant
        self._installs = home_assistant and InstallCommands(
            install, lambda: {device.name for device in in_force().devices}
        )
        self.session = MqttSession(
            settings.mqtt,
            topics=topics,
            on_message=Router([intake.route(settings.mqtt.ota_topic)]).accept,
            on_connected=self._connected,
            on_refusal=on_change,
            on_command=self._installs.take if self._installs else None,
            subscriptions=subscriptions,
        )
        self._reports = Reports(
            board,
            self.session,
            topics=topics,
            with_progress=not isinstance(settings.mqtt.connect, Periodic),
        )
        self._gateway_report = GatewayReport(gateway, self.session, topic=topics.gateway)
        self._home_assistant = HomeAssistantReport(
            lambda: discoveries(in_force(), board),
            self.session,
            board,
            search=discovery_filter(home_assistant.prefix, settings.gateway.id) if home_assistant else "",
            held=discovered,
        )

    @property
    def discovered(self) -> Mapping[str, str]:
        """What Home Assistant was told at this broker."""
        return self._home_assistant.held

    def _connected(self) -> None:
        self.online_since = datetime.now(UTC)
        self._reports.resend()
        self._gateway_report.resend()
        self._home_assistant.resend()

    async def run(self) -> None:
        """Serve until cancelled; then publish `offline`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reports.run(), name="reports")
            tasks.create_task(self._gateway_report.run(), name="gateway report")
            if self._home_assistant.is_needed:
                tasks.create_task(self._home_assistant.run(), name="home assistant")
            if self._installs:
                tasks.create_task(self._installs.run(), name="install commands")
            tasks.create_task(self.session.run(), name="mqtt")
