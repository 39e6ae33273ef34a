"""A gateway that is attacked: from the message to the planner's decision, beside what `explain` says of it.

Real are intake, store, spool, verification, planner, scheduler, commands and the control socket's operations.
The device is a board in memory; at the start it runs 4.3.2, which came through the gateway, so it has an
anti-rollback mark.
"""

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

from gatewayd.config import Device
from gatewayd.control.messages import ExplainDeviceResult, ExplainMessageResult, Forecast
from gatewayd.control.operations import MIB, ControlContext, ControlOperations
from gatewayd.control.peer import Peer
from gatewayd.control.requests import ExplainDevice, ExplainMessage
from gatewayd.errors import GatewaydError
from gatewayd.jobs.eligibility import installed_version
from gatewayd.jobs.transitions import JobState
from gatewayd.mqtt.connection import IncomingMessage
from gatewayd.mqtt.intake import Intake
from gatewayd.mqtt.router import Router
from gatewayd.ota.container import Rom, build, encrypt
from gatewayd.ota.keys import KeySet
from gatewayd.ota.patch import PatchEncoding, encode_patch
from gatewayd.planning.planner import plan
from lab.commands_rig import Rig, a_rig
from lab.container_sources import TIMESTAMP_MS
from lab.containers import KEY
from lab.jobs import TOPIC_TEXT, a_device, some_settings, until

SLOT, SLOT_BYTES = 0x2000, 32_768
IMAGE = bytes(range(256)) * 20
INSTALLED_MS, NEW_MS, LATER_MS = TIMESTAMP_MS, TIMESTAMP_MS + 1000, TIMESTAMP_MS + 10**9

# The tests publish on the device's topic, and on that of another minor.
KEPT_PER_TOPIC, TOPICS = 2, 2


def packed(
    timestamp_ms: int = NEW_MS,
    image: bytes = IMAGE,
    *,
    seed: bytes | None = KEY.seed,
    stream_key: bytes | None = KEY.stream_key,
    addresses: Iterable[int] = (SLOT,),
) -> bytes:
    """A container; genuine unless told otherwise."""
    plain = build([Rom(address, image) for address in addresses], timestamp_ms, seed)
    return encrypt(plain, stream_key) if stream_key else plain


def sent(body: bytes, patch: int = 9, *, topic: str = TOPIC_TEXT, qos: int = 1) -> IncomingMessage:
    """A message as it comes from the broker."""
    return IncomingMessage(topic, encode_patch(patch, PatchEncoding.VARINT) + body, qos, retain=True)


GENUINE = packed(INSTALLED_MS)
LATER = packed(LATER_MS, IMAGE[::-1])


class Siege:
    """One device, its gateway, and the publishers."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        settings = rig.reconciler.settings
        self.rig, self.folder = rig, folder
        intake = Intake(
            rig.bench.store,
            max_message_bytes=settings.mqtt.max_message_mib * MIB,
            on_change=rig.reconciler.changed,
            checks=rig.checks(),
        )
        self.router = Router([intake.route(settings.mqtt.ota_topic)])
        parts: dict[str, Any] = dict.fromkeys(field.name for field in fields(ControlContext))
        parts |= {"store": rig.bench.store, "firmware": rig.bench.deps.firmware}
        parts |= {"reconciler": rig.reconciler, "commands": rig.commands}
        parts |= {"under_way": rig.scheduler.under_way}
        self._operations = ControlOperations(ControlContext(**parts))

    async def install(self, message: IncomingMessage) -> None:
        """Publish what is genuine; it arrives."""
        before = len(self.rig.board.started)
        await self.router.accept(message)
        await until(lambda: len(self.rig.board.started) > before)
        await self.rig.until_state(JobState.SUCCEEDED, len(await self.rig.jobs()))
        await self.rig.reconciler.settled()

    async def refuses(self, codes: Iterable[str], *messages: IncomingMessage) -> None:
        """Each message is refused with one of the codes, each code comes; what is genuine still arrives."""
        came = {await self.hit(message) for message in messages}
        assert came == set(codes), f"{sorted(came)} came, not {sorted(codes)}"
        await self._leaves_nothing_behind()
        await self.install(sent(LATER, 10))

    async def hit(self, message: IncomingMessage) -> str:
        """Let a message come; return the code with which the device is spared it."""
        said = await self._foretold(message)
        code = await self._refused_at_the_door(message) or await self._decided()
        assert said == code, f"explain foretold {said}, and it is {code}"
        return code

    async def _refused_at_the_door(self, message: IncomingMessage) -> str:
        try:
            await self.router.accept(message)
        except GatewaydError as error:
            return error.code
        return ""

    async def _decided(self) -> str:
        """What the planner says, and `gatewayctl explain DEVICE`; nothing is sent."""
        heard, jobs = list(self.rig.board.heard), len(await self.rig.jobs())
        await self.rig.reconciler.settled()
        (decision,) = plan(self.rig.reconciler.settings, await self.rig.reconciler.known()).decisions
        request = ExplainDevice(device=decision.device)
        (explained,) = [one async for one in self._operations.answer(request, Peer())]
        forecast = cast("ExplainDeviceResult", explained).forecast
        assert (forecast.code, forecast.reason) == (decision.code, decision.reason)
        assert self.rig.board.heard == heard, "something was sent"
        assert len(await self.rig.jobs()) == jobs, "a job was made"
        return decision.code

    async def _leaves_nothing_behind(self) -> None:
        """Of a topic the last message is kept, and the newest genuine one: no more, whatever is published."""
        files = [path for path in (self.folder / "spool").iterdir() if path.is_file()]
        verdicts = (await self.rig.reconciler.known()).verdicts
        assert max(len(files), len(verdicts)) <= KEPT_PER_TOPIC * TOPICS

    async def _foretold(self, message: IncomingMessage) -> str:
        """What `gatewayctl explain TOPIC MESSAGE` says, before anything has come."""
        try:
            return (await self.explain(message)).code
        except GatewaydError as error:
            return error.code

    async def explain(self, message: IncomingMessage) -> Forecast:
        descriptor = os.memfd_create("message")
        os.write(descriptor, message.payload)
        peer = Peer(files=[descriptor])
        answers = self._operations.answer(ExplainMessage(topic=message.topic), peer)
        (result,) = [one async for one in answers]
        (forecast,) = cast("ExplainMessageResult", result).devices
        return forecast

    async def configure(self, device: Device) -> None:
        """Put other settings of the device in force."""
        settings = self.rig.reconciler.settings
        await self.rig.reconciler.configure(settings.model_copy(update={"devices": (device,)}))

    async def runs(self) -> str:
        """The version that the gateway takes the device to run."""
        known = await self.rig.reconciler.known()
        device = self.rig.reconciler.settings.devices[0]
        return str(installed_version(device, known.devices[device.name]))


@asynccontextmanager
async def a_siege(
    folder: Path, keys: Mapping[str, KeySet] | None = None, **values: Any
) -> AsyncIterator[Siege]:
    """Start a gateway; `values` are settings of the device."""
    device = a_device(**{"payload": "advanced", "keys": "pump"} | values)
    async with a_rig(folder, device) as rig:
        rig.board.pace_s = 0.0
        rig.board.info = replace(rig.board.info, slot_address=SLOT, slot_size=SLOT_BYTES)
        key_sets = dict(keys or {"pump": KEY.key_set()})
        await rig.reconciler.configure(some_settings(device, key_sets=key_sets))
        yield Siege(rig, folder / "state")
