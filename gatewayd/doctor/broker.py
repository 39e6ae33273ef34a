"""Checks of the broker: name, connection, login, topics.

The doctor connects with its own client id and a clean session, acknowledges nothing, and does not ask for
retained messages, so it touches neither the gateway's session nor its messages.

Access rules can be checked only in part. The doctor subscribes and reports the broker's answer; but mosquitto
grants every subscription, and later withholds messages that its acl_file forbids. To check whether statuses
may be published, it sends the most harmless message possible: an empty one, not retained, for a device that
does not exist. It means "no such device is configured", which is true. MQTT 3.1.1 cannot refuse a message.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, TypeVar

from aiomqtt import ProtocolVersion

from gatewayd.codes import Code
from gatewayd.config import Mqtt, Settings
from gatewayd.doctor.finding import Finding, failure, ok, refused, warning
from gatewayd.jobs.eligibility import topics_of
from gatewayd.jobs.model import DeviceRecord
from gatewayd.mqtt.connection import Connection
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.topics import GatewayTopics
from gatewayd.mqtt.visitor import visit, visitor
from gatewayd.tls import Facts

T = TypeVar("T")

# A name server or broker that takes longer counts as not answering.
LIMIT_S = 5.0
# Time enough to renew a certificate by hand.
EXPIRES_SOON = timedelta(days=21)
# A broker without MQTT 5 sends retained messages unasked; larger ones are discarded.
MAX_PACKET_BYTES = 64 * 1024
_SHOWN_TOPICS = 3
_RULES_HINT = "check the broker's access rules for this user; they may differ for the gateway's own client id"


async def examine_broker(settings: Settings) -> AsyncIterator[Finding]:
    """Check the broker, from its name to the topics; stop where nothing further can be checked."""
    mqtt = settings.mqtt
    where = f"{mqtt.host}:{mqtt.port}"
    try:
        addresses = await _resolve(mqtt)
        connection = await visit(visitor(mqtt, max_packet_bytes=MAX_PACKET_BYTES))
    except BrokerError as error:
        if error.code == Code.BROKER_UNREACHABLE:
            yield refused("broker", error)
            return
        yield ok("broker", f"{where} is reachable")
        yield refused("login", error, hint="see the broker's log")
        return
    try:
        yield ok("broker", f"{where} is reachable")
        facts = connection.tls
        yield judge_tls(mqtt, facts, datetime.now(UTC)) if facts else judge_privacy(mqtt, addresses)
        yield judge_login(mqtt, connection.protocol)
        # Publish first: without MQTT 5, a subscription brings retained firmware, which would be in the way.
        yield await _try_publishing(connection, harmless_topic(settings))
        yield await _try_subscribing(connection, followed_topics(settings))
    finally:
        await connection.close()


def judge_privacy(mqtt: Mqtt, addresses: Collection[str]) -> Finding:
    """Judge a connection without TLS."""
    if all(ip_address(address).is_loopback for address in addresses):
        return ok("TLS", "none, and none needed: the broker is on this machine")
    what = "statuses and the password are" if mqtt.password is not None else "statuses are"
    return warning(
        "TLS",
        f"none: {what} readable on the network to {mqtt.host}; signed and encrypted firmware is safe",
        code="no_tls",
        hint="set mqtt.tls if the broker supports it; or use a trusted network, or a broker on this machine",
    )


def judge_tls(mqtt: Mqtt, facts: Facts, now: datetime) -> Finding:
    """Judge a successful handshake, and whether the certificate is about to expire."""
    by = "its key is pinned" if mqtt.tls and mqtt.tls.pins else "signed by a trusted authority"
    text = f"{facts.version} with {facts.subject or 'a broker without a name'}: {by}"
    dates = f"its certificate is valid from {facts.not_before:%Y-%m-%d} to {facts.not_after:%Y-%m-%d}"
    if not facts.not_before <= now <= facts.not_after:
        return warning(
            "TLS",
            f"{text}; {dates}, and it is {now:%Y-%m-%d} here",
            code="clock_doubtful",
            hint="set the clock, or renew the certificate; harmless if only a pin is used",
        )
    if facts.not_after - now < EXPIRES_SOON:
        days = (facts.not_after - now).days
        return warning(
            "TLS",
            f"{text}; {dates}: {days} more day{'' if days == 1 else 's'}",
            code="expires_soon",
            hint="renew the broker's certificate",
        )
    return ok("TLS", f"{text}; {dates}")


def judge_login(mqtt: Mqtt, protocol: ProtocolVersion) -> Finding:
    """Report a successful login."""
    who = f"user {mqtt.username}" if mqtt.username else "clients without a user name"
    if protocol is ProtocolVersion.V5:
        return ok("login", f"{mqtt.host}:{mqtt.port} accepts {who}, with MQTT 5")
    return ok("login", f"{mqtt.host}:{mqtt.port} accepts {who}, with MQTT 3.1.1 (it does not support MQTT 5)")


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


async def _resolve(mqtt: Mqtt) -> list[str]:
    """Return the broker's addresses. Raises BrokerError."""
    loop = asyncio.get_running_loop()
    why: str
    try:
        async with asyncio.timeout(LIMIT_S):
            found = await loop.getaddrinfo(mqtt.host, mqtt.port, type=socket.SOCK_STREAM)
        return sorted({str(entry[4][0]).partition("%")[0] for entry in found})
    except TimeoutError:
        why = f"no name server answered within {LIMIT_S:.0f} s"
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", None) or error)
    raise BrokerError(
        f"cannot resolve {mqtt.host}: {why}",
        code="broker_unreachable",
        hint="check mqtt.host, and this machine's name server (`getent hosts` asks it)",
    )


async def _try_publishing(connection: Connection, topic: str) -> Finding:
    try:
        await _answered(connection, connection.publish(topic, b"", retain=False))
    except BrokerError as error:
        return judge_publishing(topic, error, connection.protocol)
    return judge_publishing(topic, None, connection.protocol)


async def _try_subscribing(connection: Connection, topics: list[str]) -> Finding:
    try:
        reasons = await _answered(connection, connection.try_subscribing(topics)) if topics else {}
    except BrokerError as error:  # some brokers close the connection instead
        return refused("subscriptions", error, hint=_RULES_HINT)
    return judge_subscriptions(topics, reasons)


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
