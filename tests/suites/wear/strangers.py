"""Kinds of wear by what is published: a stranger without keys, who publishes whatever was seen or made up."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from random import Random

from lab.containers import KEY
from lab.jobs import TOPIC_TEXT, a_device, clock, some_settings, until
from lab.siege import LATER_MS, NEW_MS, SLOT, packed, sent

from gatewayd.errors import FirmwareError
from gatewayd.mqtt.connection import IncomingMessage
from gatewayd.mqtt.intake import Intake
from gatewayd.mqtt.router import Router
from gatewayd.ota.topic import TopicTemplate
from suites.wear.gateway import Gateway, a_gateway
from suites.wear.meter import Meter

MIB = 1 << 20
# Long enough that an hour of it is soon over, short enough to be an attack.
PAUSE_S = 10.0
IMAGE = Random(1).randbytes(MIB)
GENUINE = sent(packed(LATER_MS, IMAGE), 3)
OLD = sent(packed(NEW_MS, IMAGE), 2)
OLDER = sent(packed(NEW_MS - 1, IMAGE), 2)
EMPTY = IncomingMessage(TOPIC_TEXT, b"", 1, retain=False)


def junk(size_bytes: int) -> Iterator[IncomingMessage]:
    noise = Random(1)
    while True:
        yield sent(noise.randbytes(size_bytes), 4)


def renumbered() -> Iterator[IncomingMessage]:
    """The container that is installed, as another version each time: nothing authenticates that number."""
    body = packed(LATER_MS, IMAGE)
    return (sent(body, number) for number in cycle(range(4, 10_000)))


MESSAGES = {
    "junk_of_1_mib": lambda: junk(MIB),
    "junk_of_300_bytes": lambda: junk(300),
    "replays": lambda: cycle([GENUINE]),
    "empty_messages_on_an_empty_topic": lambda: cycle([replace(EMPTY, topic="/a/pump/u/4.3/s")]),
    "replays_of_two_old_releases": lambda: cycle([OLD, OLDER]),
    "old_releases_and_empty_messages": lambda: cycle([OLD, EMPTY, OLDER, EMPTY]),
    "the_same_container_renumbered": renumbered,
}


async def published(folder: Path, seconds: float, messages: Iterator[IncomingMessage]) -> int:
    """Publish one message after the other to a device that runs the newest release."""
    async with a_gateway(folder, a_device(payload="advanced", keys="pump")) as gateway:
        router = await _prepare(gateway)
        gateway.board.info = replace(gateway.board.info, slot_address=SLOT, slot_size=2 * MIB)
        await router.accept(GENUINE)
        await until(lambda: "succeeded" in gateway.bench.witness.states)
        await gateway.reconciler.settled()
        meter = await Meter.of(gateway.bench.store)
        end = clock() + seconds
        while clock() < end:
            with suppress(FirmwareError):
                await router.accept(next(messages))
            await gateway.reconciler.settled()
            await asyncio.sleep(PAUSE_S)
        return meter.written


async def _prepare(gateway: Gateway) -> Router:
    (device,) = gateway.bench.settings.devices
    await gateway.reconciler.configure(some_settings(device, key_sets={"pump": KEY.key_set()}))
    intake = Intake(
        gateway.bench.store,
        max_message_bytes=4 * MIB,
        on_change=gateway.reconciler.changed,
        checks=gateway.checks(),
        clock=asyncio.get_running_loop().time,
    )
    return Router([intake.route(TopicTemplate())])
