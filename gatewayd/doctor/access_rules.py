"""Checks of the broker's access rules: statuses, the last will, firmware topics, the marker.

Rules can be checked only in part. The doctor subscribes and reports the broker's answer; but mosquitto
grants every subscription, and later withholds messages that its acl_file forbids. To check whether statuses
may be published, it sends the most harmless message possible: an empty one, not retained, for a device that
does not exist. It means "no such device is configured", which is true. MQTT 3.1.1 cannot refuse a message.

The marker (see mqtt/retained_check.py) is both written and read, so one message on its topic checks both:
it must come back. It is empty and not retained, and gatewayd looks at what is retained only.

A broker may refuse CONNECT over the last will alone. So the doctor connects once more, with gatewayd's will.
If that connection broke, the broker would publish `offline`; so it is made only while gatewayd is not
connected. mosquitto accepts any will, and throws a forbidden one away when it is due.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from aiomqtt import ProtocolVersion

from gatewayd.codes import Code
from gatewayd.config import Settings
from gatewayd.control.client import ask
from gatewayd.control.messages import StatusResult
from gatewayd.control.requests import Status
from gatewayd.doctor.finding import Finding, failure, ok, refused, warning
from gatewayd.errors import GatewaydError
from gatewayd.jobs.eligibility import topics_of
from gatewayd.jobs.model import DeviceRecord
from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.topics import GatewayTopics
from gatewayd.mqtt.visitor import visit, visitor
from gatewayd.store.lock import find_daemon

T = TypeVar("T")

# A broker that takes longer counts as not answering.
LIMIT_S = 5.0
# A broker without MQTT 5 sends retained messages unasked; larger ones are discarded.
MAX_PACKET_BYTES = 64 * 1024
_SHOWN_TOPICS = 3
_RULES_HINT = "check the broker's access rules for this user; they may differ for the gateway's own client id"
_WITHOUT_MARKER = "so a release that is withdrawn while gatewayd is off may be installed all the same"


async def try_last_will(settings: Settings, protocol: ProtocolVersion) -> Finding:
    """Check whether the broker takes a connection that has gatewayd's last will."""
    will = GatewayTopics.of(settings).will
    match _is_connected(settings):
        case True:
            return ok("last will", "the broker accepted it with gatewayd's own connection")
        case None:
            return ok("last will", "not tried: gatewayd runs, and does not say whether it is connected")
    try:
        await (await visit(visitor(settings.mqtt, will=will), protocol)).close()
    except BrokerError as error:
        return judge_last_will(will.topic, error)
    return judge_last_will(will.topic, None)


def judge_last_will(topic: str, refusal: BrokerError | None) -> Finding:
    """Judge the broker's answer to CONNECT with a will, after one without was accepted."""
    if refusal is None:
        text = f"the broker accepts it, retained on {topic} (some brokers accept one that they withhold)"
        return ok("last will", text)
    if refusal.code == Code.RETAIN_UNAVAILABLE:
        return refused("last will", refusal)
    return failure(
        "last will",
        "the broker accepts this user without a last will, and not with gatewayd's, which is a retained"
        f" message on {topic}: {refusal.message}",
        code="publish_refused",
        hint=f"allow this user to publish on {topic}, also retained and as a last will",
    )


def followed_topics(settings: Settings) -> list[str]:
    """Return the topics for the versions in the configuration; devices may run others."""
    topics: set[str] = set()
    for device in settings.devices:
        topics |= topics_of(settings, device, DeviceRecord(device.name))
    return sorted(topics)


def harmless_topic(settings: Settings) -> str:
    """Return the status topic of a device that does not exist."""
    name, names = "doctor", {device.name for device in settings.devices}
    while name in names:
        name += "-"
    return GatewayTopics.of(settings).device(name)


def judge_subscriptions(topics: list[str], reasons: dict[str, str]) -> Finding:
    """Judge the broker's answer to subscriptions."""
    if reasons:
        text = "; ".join(f"{topic}: {reason}" for topic, reason in _some(reasons.items()))
        more = f"; and {len(reasons) - _SHOWN_TOPICS} more" if len(reasons) > _SHOWN_TOPICS else ""
        return failure(
            "subscriptions", f"refused: {text}{more}", code="subscription_refused", hint=_RULES_HINT
        )
    if not topics:
        return ok("subscriptions", "none needed: no device is configured")
    more = f" and {len(topics) - _SHOWN_TOPICS} more" if len(topics) > _SHOWN_TOPICS else ""
    return ok(
        "subscriptions",
        f"granted: {', '.join(_some(topics))}{more} (some brokers grant topics whose messages they withhold)",
    )


def judge_publishing(topic: str, refusal: BrokerError | None, protocol: ProtocolVersion) -> Finding:
    """Judge the broker's answer to a message on `topic`."""
    if refusal is not None:
        return refused("statuses", refusal, hint=_RULES_HINT)
    if protocol is ProtocolVersion.V5:
        return ok("statuses", f"the broker accepts them below {topic.rsplit('/', 1)[0]}")
    return ok("statuses", "sent one; MQTT 3.1.1 does not report whether it is allowed")


async def try_publishing(connection: Connection, topic: str) -> Finding:
    """Check whether the broker takes a message on `topic`."""
    try:
        await _answered(connection, connection.publish(topic, b"", retain=False))
    except BrokerError as error:
        return judge_publishing(topic, error, connection.protocol)
    return judge_publishing(topic, None, connection.protocol)


async def try_subscribing(connection: Connection, topics: list[str]) -> Finding:
    """Check whether the broker grants these topics."""
    try:
        reasons = await _answered(connection, connection.try_subscribing(topics)) if topics else {}
    except BrokerError as error:  # some brokers close the connection instead
        return refused("subscriptions", error, hint=_RULES_HINT)
    return judge_subscriptions(topics, reasons)


async def try_marker(settings: Settings, protocol: ProtocolVersion) -> Finding:
    """Check whether the marker may be written and read: publish on its topic, and wait for that message."""
    topic = GatewayTopics.of(settings).marker
    try:
        connection = await visit(visitor(settings.mqtt, max_packet_bytes=MAX_PACKET_BYTES), protocol)
        try:
            comes_back = await _comes_back(connection, topic)
        finally:
            await connection.close()
    except BrokerError as error:
        return judge_marker(topic, error)
    return judge_marker(topic, None if comes_back else _withheld(topic, protocol))


def judge_marker(topic: str, refusal: BrokerError | None) -> Finding:
    """Judge whether a message on the marker's topic came back."""
    if refusal is None:
        return ok("marker", f"{topic} may be written and read")
    why = refusal.message if topic in refusal.message else f"{topic}: {refusal.message}"
    return warning(
        "marker",
        f"{why}; {_WITHOUT_MARKER}",
        code=refusal.code,
        hint=f"let this user write and read {topic}, also retained (docs/fleet.md has the access rules)",
    )


def _withheld(topic: str, protocol: ProtocolVersion) -> BrokerError:
    rules = "reading" if protocol is ProtocolVersion.V5 else "writing or reading"
    return BrokerError(
        f"the broker confirms a message on {topic} and does not deliver it: its access rules seem to forbid"
        f" {rules} it",
        code="marker_withheld",
    )


async def _comes_back(connection: Connection, topic: str) -> bool:
    """Publish on `topic`, and return whether that message is delivered. Raises BrokerError."""
    for reason in (await _answered(connection, connection.try_subscribing([topic]))).values():
        raise BrokerError(
            f"the broker refuses a subscription to {topic}: {reason}", code="subscription_refused"
        )
    await _answered(connection, connection.publish(topic, b"", retain=False))
    try:
        async with asyncio.timeout(LIMIT_S):
            while True:
                delivery = await connection.receive()
                connection.acknowledge(delivery)
                if not delivery.message.payload:
                    return True
    except TimeoutError:
        return False


def _is_connected(settings: Settings) -> bool | None:
    """Whether gatewayd is connected to this broker, or sleeps between connections; None: it does not say."""
    if find_daemon(settings.gateway.state_dir).runs is False:
        return False
    try:
        broker = ask(settings.gateway.control_socket, Status(), StatusResult, timeout_s=LIMIT_S).broker
    except GatewaydError:
        return None
    is_this = (broker.host, broker.port) == (settings.mqtt.host, settings.mqtt.port)
    return is_this and (broker.connected or broker.next_connection_at is not None)


async def _answered(connection: Connection, question: Coroutine[Any, Any, T]) -> T:
    """Wait for an answer while the connection lasts. Raises BrokerError."""
    asking = asyncio.create_task(question)
    ending = asyncio.create_task(connection.ended())
    await asyncio.wait([asking, ending], timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
    first = asking if asking.done() else ending
    for task in (asking, ending):
        task.cancel()
    await asyncio.wait([asking, ending])
    if not first.cancelled():
        return first.result()
    raise BrokerError(
        f"the broker has not answered within {LIMIT_S:.0f} s",
        code="broker_silent",
        hint="see the broker's log, and check whether the network is slow",
    )


def _some(items: Iterable[T]) -> list[T]:
    return list(items)[:_SHOWN_TOPICS]
