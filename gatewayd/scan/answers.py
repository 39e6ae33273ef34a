"""The question who is there, which changes nothing in a device, and what it answers."""

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict

from gatewayd.delivery.pump import Pump
from gatewayd.link.base import Link
from gatewayd.protocol.registry import DEFAULT_PROTOCOL
from gatewayd.protocol.session import DeviceInfo, Event, Failed, Identified, TransferSession


class Frozen(BaseModel):
    """What a report is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(Frozen):
    """What a device said of itself; null is what it did not say."""

    app_id: str | None
    hardware_id: str | None
    device_id: str | None
    version: str | None
    protocol: str = DEFAULT_PROTOCOL


async def ask_identity(link: Link, session: TransferSession, patience_s: float) -> DeviceInfo:
    """Open the link and ask. Raises what keeps the device from answering: LinkError, DeviceError."""
    clock = asyncio.get_running_loop().time
    async with Pump(link, session, clock=clock, on_notice=_ignore) as talk:
        session.identify(talk.now, patience_s)
        outcome = await talk.outcome()
    if isinstance(outcome, Failed):
        raise outcome.error
    assert isinstance(outcome, Identified), outcome  # noqa: S101 - identify ends in nothing else
    return outcome.info


def identity(info: DeviceInfo, protocol: str) -> dict[str, Any]:
    """Return the fields of an Answer."""
    said = {name: getattr(info, name) for name in Answer.model_fields if name != "protocol"}
    return {**said, "protocol": protocol}


def _ignore(_event: Event) -> None:
    pass
