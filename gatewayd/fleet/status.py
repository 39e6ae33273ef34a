"""The status of all gateways of a broker and their devices, read once from the retained messages.

Anybody whom the broker lets publish there may have written them, so they are treated like any other input:
what is not a valid status is reported as unreadable, and size, number and time are limited.

MQTT does not say when all retained messages have arrived: the answer to SUBSCRIBE may precede them, and a
broker may send them in pieces. So the snapshot counts as complete when nothing new has arrived for a while.
"New" means a topic not seen before, because a busy fleet never falls silent. Gateways are found by
`…/status` and `…/gateway`; then their devices are requested, a few gateways at a time, because a broker
discards what does not fit into its queue (mosquitto 2.0.11 sent 14,985 of 40,000 requested together).
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from gatewayd.config import Settings
from gatewayd.jobs.transitions import JobState
from gatewayd.mqtt.connection import Connection, Delivery
from gatewayd.mqtt.login import PACKET_OVERHEAD_BYTES, BrokerError
from gatewayd.mqtt.topics import FleetPlace, FleetTopics, Presence
from gatewayd.mqtt.visitor import Account, visit, visitor
from gatewayd.status.board import Unwell

# Ten times the longest real status: names and reasons are short.
PAYLOAD_LIMIT_BYTES = 16 * 1024
# Of gateways and devices together; 10,000 gateways with ten devices each have few more.
TOPICS_LIMIT = 120_000
TIME_LIMIT_S = 120.0
# Seconds without news before the snapshot counts as complete. TCP resends a lost packet within a second.
QUIET_S = 2.0
# How many gateways' devices are requested together, and how long to wait for a full batch.
BATCH = 20
BATCH_WAIT_S = 0.2
# A wait is made of looks this long. One that takes longer, because this process has to wait for a processor,
# counts as one: what has arrived meanwhile shows in the next.
LOOK_S = 0.1

PresenceText = Literal["online", "offline", "sleeping", "unknown", "unreadable"]
_SAID: dict[bytes, PresenceText] = {one.payload: one.value for one in Presence}
_UNREADABLE = "unreadable"
# States that a device does not leave by itself.
_STUCK = {JobState.FAILED, *Unwell, _UNREADABLE}


R = TypeVar("R", bound=BaseModel)


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # on the first or the last day there is
        raise ValueError("no such time") from None


class DeviceReport(BaseModel):
    """What a gateway reports about a device. A later version may report more."""

    state: str = Field(max_length=64)
    app_id: str | None = Field(None, max_length=64)
    installed_version: str | None = Field(None, max_length=64)
    latest_version: str | None = Field(None, max_length=64)
    progress: int | None = None
    job: int | None = None
    attempt: int | None = None
    code: str | None = Field(None, max_length=64)
    reason: str | None = Field(None, max_length=4096)
    paused: bool = False
    updated_at: Annotated[datetime, AfterValidator(_utc)] | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether it needs attention; not if it waits for a person, or an update is under way."""
        waits_after_failure = self.state == "queued" and self.code is not None and not self.paused
        return self.state in _STUCK or waits_after_failure


class FleetDevice(DeviceReport):
    """A device. `updated_at`: since when it has been in this state."""

    name: str
    stuck: bool


class GatewayTrouble(BaseModel):
    """What keeps a gateway from working."""

    code: str = Field(max_length=64)
    reason: str = Field("", max_length=4096)


class GatewayReport(BaseModel):
    """What a gateway reports about itself; earlier versions do not. A later version may report more."""

    version: str | None = Field(None, max_length=64)
    started_at: Annotated[datetime, AfterValidator(_utc)] | None = None
    online_since: Annotated[datetime, AfterValidator(_utc)] | None = None
    config_revision: str | None = Field(None, max_length=64)
    config_refused: str | None = Field(None, max_length=4096)
    trouble: GatewayTrouble | None = None


class FleetGateway(GatewayReport):
    """A gateway. `unknown`: there are reports on its devices, but none on the gateway."""

    name: str
    status: PresenceText
    devices: tuple[FleetDevice, ...]

    @property
    def is_away(self) -> bool:
        """Whether it is neither online nor sleeping as configured."""
        return self.status not in {"online", "sleeping"}

    @property
    def problem(self) -> str:
        """What it says is wrong with itself; empty if nothing is."""
        parts = []
        if self.config_refused:
            parts.append(f"the configuration on disk is refused: {self.config_refused}")
        if self.trouble:
            parts.append(f"{self.trouble.code}: {self.trouble.reason}")
        return "; ".join(parts)

    @property
    def needs_somebody(self) -> bool:
        """Whether it is away or has a problem, or one of its devices is stuck."""
        return self.is_away or bool(self.problem) or any(device.stuck for device in self.devices)


class FleetStatus(BaseModel):
    """`fleet status`: `ok` if each gateway is online or sleeping, none has a problem, no device is stuck."""

    broker: str
    gateways: tuple[FleetGateway, ...]
    ok: bool


async def read_fleet(
    settings: Settings,
    *,
    gateway: str | None = None,
    app: str | None = None,
    quiet_s: float = QUIET_S,
    account: Account | None = None,
) -> FleetStatus:
    """Read the retained messages from the broker of `settings`. Raises BrokerError if there are none."""
    topics = FleetTopics(settings, gateway)
    limit = PAYLOAD_LIMIT_BYTES + 1
    login = visitor(
        settings.mqtt, account=account, max_packet_bytes=PACKET_OVERHEAD_BYTES + limit, qos_0_bytes=limit
    )
    connection = await visit(login)
    where = f"{login.host}:{login.port}"
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            found = await _SnapshotReader(connection, topics, quiet_s).read_all()
    except TimeoutError:
        raise BrokerError(
            f"{where}: statuses still arrive after {TIME_LIMIT_S:.0f} s",
            code="fleet_too_large",
            hint="select one gateway with --gateway",
        ) from None
    finally:
        await connection.close()
    if not found:
        raise BrokerError(
            f"{where}: nothing is retained on {topics.statuses}",
            code="no_reports",
            hint="check the name, mqtt.status_topic, and whether the broker lets this user read there",
        )
    return judge(where, found, app)


def judge(broker: str, found: dict[FleetPlace, bytes], app: str | None) -> FleetStatus:
    """Turn the messages into a status; with `app`, only for its devices."""
    devices: dict[str, list[FleetDevice]] = {place.gateway: [] for place in sorted(found)}
    for place, payload in sorted(found.items()):
        if place.what == "device":
            devices[place.gateway].append(_device(place.device, payload))
    if app is not None:
        of_app = {gateway: [one for one in each if one.app_id == app] for gateway, each in devices.items()}
        devices = {gateway: each for gateway, each in of_app.items() if each}
    gateways = tuple(
        FleetGateway(
            name=name,
            status=_presence(found.get(FleetPlace(name, "status"))),
            devices=tuple(each),
            **_report(found.get(FleetPlace(name, "gateway"))).model_dump(),
        )
        for name, each in devices.items()
    )
    ok = not any(gateway.needs_somebody for gateway in gateways)
    return FleetStatus(broker=broker, gateways=gateways, ok=ok)


def _device(name: str, payload: bytes) -> FleetDevice:
    try:
        report = _read(DeviceReport, payload)
    except ValueError as error:
        report = DeviceReport(state=_UNREADABLE, code="bad_report", reason=f"no status: {error}"[:200])
    return FleetDevice(name=name, stuck=report.is_stuck, **report.model_dump())


def _report(payload: bytes | None) -> GatewayReport:
    if payload is None:
        return GatewayReport()
    try:
        return _read(GatewayReport, payload)
    except ValueError as error:
        return GatewayReport(trouble=GatewayTrouble(code="bad_report", reason=f"no status: {error}"[:200]))


def _read(model: type[R], payload: bytes) -> R:
    """Return what a payload says. Raises ValueError with a reason that fits on a line."""
    if len(payload) > PAYLOAD_LIMIT_BYTES:
        raise ValueError(f"larger than {PAYLOAD_LIMIT_BYTES} bytes")
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None


def _presence(payload: bytes | None) -> PresenceText:
    if payload is None:
        return "unknown"
    return _SAID.get(payload, "unreadable")


class _SnapshotReader:
    """Receives messages until no new ones arrive. An empty message clears its topic, and does not count."""

    def __init__(self, connection: Connection, topics: FleetTopics, quiet_s: float) -> None:
        self._connection = connection
        self._topics = topics
        self._quiet_s = quiet_s
        self._found: dict[FleetPlace, bytes] = {}
        self._to_ask = [topics.gateway] if topics.gateway else []
        self._known = set(self._to_ask)
        self._coming: asyncio.Future[Delivery] | None = None

    async def read_all(self) -> dict[FleetPlace, bytes]:
        """Return all messages, by what they are. Raises BrokerError; the caller sets the time limit."""
        try:
            return await self._read()
        finally:
            if self._coming is not None:
                self._coming.cancel()
                await asyncio.wait([self._coming])

    async def _read(self) -> dict[FleetPlace, bytes]:
        await self._look_at([self._topics.statuses])
        # Access rules of an earlier version do not have this topic: then there is less to say.
        await self._connection.look_at([self._topics.reports])
        clock = asyncio.get_running_loop().time
        quiet_s = 0.0
        while True:
            if len(self._to_ask) >= BATCH or (self._to_ask and quiet_s >= BATCH_WAIT_S):
                await self._ask_for_devices()
                quiet_s = 0.0  # wait for what was just requested
            elif not self._to_ask and quiet_s >= self._quiet_s:
                return {key: payload for key, payload in self._found.items() if payload}
            before = clock()
            is_new = await self._take()
            quiet_s = 0.0 if is_new else quiet_s + min(clock() - before, LOOK_S)

    async def _take(self) -> bool:
        """Take one message, if one arrives within a look; return whether its topic is new.

        Never cancel `receive` on a timeout: a message that has just arrived would be lost.
        """
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._connection.receive())
        await asyncio.wait([self._coming], timeout=LOOK_S)
        if not self._coming.done():
            return False
        message, self._coming = self._coming.result().message, None
        place = self._topics.parse(message.topic)
        if place is None:
            return False
        is_new = place not in self._found
        self._found[place] = message.payload
        if len(self._found) > TOPICS_LIMIT:
            raise BrokerError(
                f"more than {TOPICS_LIMIT} statuses are retained",
                code="fleet_too_large",
                hint="select one gateway with --gateway",
            )
        if place.what != "device" and place.gateway not in self._known:
            self._to_ask.append(place.gateway)
            self._known.add(place.gateway)
        return is_new

    async def _ask_for_devices(self) -> None:
        batch, self._to_ask = self._to_ask[:BATCH], self._to_ask[BATCH:]
        await self._look_at(self._topics.of(gateway).every_device for gateway in batch)

    async def _look_at(self, topics: Iterable[str]) -> None:
        for topic, reason in (await self._connection.look_at(list(topics))).items():
            raise BrokerError(
                f"the broker refuses a subscription to {topic}: {reason}",
                code="subscription_refused",
                hint="check its access rules for this user",
            )
