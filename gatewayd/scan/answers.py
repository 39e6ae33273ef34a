"""Identify a device, which changes nothing on it, and report its answer."""

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict

from gatewayd.delivery.pump import Pump
from gatewayd.link.base import Link
from gatewayd.protocol.registry import DEFAULT_PROTOCOL
from gatewayd.protocol.session import DeviceInfo, Event, Failed, Identified, TransferSession


class Frozen(BaseModel):
    """The base of all parts of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(Frozen):
    """A device's identity as it reported it; null for what it did not report."""

    app_id: str | None
    hardware_id: str | None
    device_id: str | None
    version: str | None
    protocol: str = DEFAULT_PROTOCOL


async def ask_identity(link: Link, session: TransferSession, patience_s: float) -> DeviceInfo:
    """Open the link and identify the device. Raises LinkError or DeviceError if it does not answer."""
    clock = asyncio.get_running_loop().time
    async with Pump(link, session, clock=clock, on_notice=_ignore) as pump:
        session.identify(pump.now, patience_s)
        outcome = await pump.outcome()
    if isinstance(outcome, Failed):
        raise outcome.error
    assert isinstance(outcome, Identified), outcome  # noqa: S101 - identify ends in nothing else
    return outcome.info


def identity(info: DeviceInfo, protocol: str) -> dict[str, Any]:
    """Return the fields of an Answer, as keyword arguments."""
    said = {name: getattr(info, name) for name in Answer.model_fields if name != "protocol"}
    return {**said, "protocol": protocol}


def _ignore(_event: Event) -> None:
    pass
