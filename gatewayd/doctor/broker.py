"""Checks of the broker: name, connection, login, and what `access_rules` tries.

The doctor connects with a client id and a session of its own, and does not ask for retained messages, so it
touches neither the gateway's session nor its messages.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from aiomqtt import ProtocolVersion

from gatewayd.codes import Code
from gatewayd.config import Mqtt, Settings
from gatewayd.doctor.access_rules import (
    MAX_PACKET_BYTES,
    followed_topics,
    harmless_topic,
    try_last_will,
    try_marker,
    try_publishing,
    try_subscribing,
)
from gatewayd.doctor.finding import Finding, ok, refused, warning
from gatewayd.mqtt.login import BrokerError
from gatewayd.mqtt.visitor import visit, visitor
from gatewayd.tls import Facts

# A name server that takes longer counts as not answering.
LIMIT_S = 5.0
# Time enough to renew a certificate by hand.
EXPIRES_SOON = timedelta(days=21)


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
        yield await try_last_will(settings, connection.protocol)
        # Publish first: without MQTT 5, a subscription brings retained firmware, which would be in the way.
        yield await try_publishing(connection, harmless_topic(settings))
        yield await try_subscribing(connection, followed_topics(settings))
    finally:
        await connection.close()
    yield await try_marker(settings, connection.protocol)


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
