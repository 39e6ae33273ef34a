"""HELLO, which changes nothing in a device, and what it answers."""

import asyncio

from pydantic import BaseModel, ConfigDict

from gatewayd.delivery.pump import Pump
from gatewayd.link.base import Link
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.session import DeviceInfo, Event, Failed, Identified


class Frozen(BaseModel):
    """What a report is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(Frozen):
    """What a device said of itself; null is what it did not say."""

    app_id: str | None
    hardware_id: str | None
    device_id: str | None
    version: str | None


async def say_hello(link: Link, session: RcpGateway, patience_s: float) -> DeviceInfo:
    """Open the link and ask. Raises what keeps the device from answering: LinkError, DeviceError."""
    clock = asyncio.get_running_loop().time
    async with Pump(link, session, clock=clock, on_notice=_ignore) as talk:
        session.identify(talk.now, patience_s)
        outcome = await talk.outcome()
    if isinstance(outcome, Failed):
        raise outcome.error
    assert isinstance(outcome, Identified), outcome  # noqa: S101 - HELLO ends in nothing else
    return outcome.info


def identity(info: DeviceInfo) -> dict[str, str | None]:
    """Return the fields of an Answer."""
    return {name: getattr(info, name) for name in Answer.model_fields}


def _ignore(_event: Event) -> None:
    pass
