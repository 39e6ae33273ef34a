"""Which ports are there, and who answers on them.

A port is asked by opening it and asking who is there, which changes nothing in a device. Two rules come
before that:

- A port in use is left alone: what any process has open (as far as /proc shows it to us), what a running
  gatewayd has for its own, the kernel's console, and what refuses to be opened beside another (flock,
  TIOCEXCL).
- A board is not reset unless that is allowed. On a port with DTR and RTS opening alone may do it, because
  Linux raises both before we can say otherwise (link/ports.py). So such ports are listed and not opened.

All ports are asked at the same time, the speeds and protocols of each one after the other.
"""

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence

from gatewayd.codes import Code, meaning
from gatewayd.errors import GatewaydError, LinkError
from gatewayd.link.holders import Holder, find_holders
from gatewayd.link.ports import Port
from gatewayd.link.uart import UartLink
from gatewayd.protocol.kind import ProtocolKind, SessionContext
from gatewayd.protocol.registry import PROTOCOLS
from gatewayd.protocol.session import DeviceInfo
from gatewayd.scan.answers import Answer, Frozen, ask_identity, identity

# A device that runs answers the first HELLO, or after a lost frame the next, a quarter of a second later.
PATIENCE_S = 2.0
# One that was reset boots first, for up to 3 s.
RESET_PATIENCE_S = 5.0
# To open and close a port, on top.
SPARE_S = 3.0


class FoundDevice(Answer):
    """What a device said of itself, and at which speed."""

    baud: int


class FoundPort(Frozen):
    """A port. Without `device`, `code` and `text` say why; `configured_as` is a device's name."""

    port: str
    node: str
    kind: str
    description: str
    configured_as: str | None = None
    device: FoundDevice | None = None
    code: str | None = None
    text: str | None = None
    hint: str | None = None


class ScanReport(Frozen):
    """What `gatewayctl scan uart --json` prints."""

    ports: tuple[FoundPort, ...]


async def scan_uart(
    ports: Iterable[Port],
    *,
    gateway_id: str,
    bauds: Sequence[int],
    may_reset: bool,
    configured: Mapping[str, str],
    claimed: Mapping[str, str],
) -> ScanReport:
    """Ask who is there, and tell of every port in the order given.

    Args:
        ports: what to look at.
        gateway_id: who asks; of the gateway itself, so that its own transfers are not put off.
        bauds: speeds to try, in this order.
        may_reset: whether ports may be opened although that may reset the board.
        configured: the configuration's devices by the node of their port.
        claimed: ports that are gatewayd's own, open at the moment or not: by node, how to say so.
    """
    ports = list(ports)
    holders = await asyncio.to_thread(find_holders, {port.node for port in ports})

    async def look(port: Port) -> FoundPort:
        error = _reason_to_leave(port, holders.get(port.node), claimed, may_reset=may_reset)
        if error is None:
            patience_s = RESET_PATIENCE_S if port.may_reset else PATIENCE_S
            return _told(port, await _ask(port, gateway_id, bauds, patience_s), configured.get(port.node))
        return _told(port, error, configured.get(port.node))

    return ScanReport(ports=tuple(await asyncio.gather(*(look(port) for port in ports))))


def _reason_to_leave(
    port: Port, holder: Holder | None, claimed: Mapping[str, str], *, may_reset: bool
) -> LinkError | None:
    """Why a port is not opened."""
    if port.node in claimed:
        return LinkError(claimed[port.node], code="link_busy", hint="gatewayd asks who is there by itself")
    if holder is not None:
        return LinkError(f"in use by {holder}", code="link_busy", hint="stop it, then scan again")
    if port.is_console:
        hint = "take console=… from the kernel's command line to use it for a device"
        return LinkError("in use by the kernel for its console", code="link_busy", hint=hint)
    if port.may_reset and not may_reset:
        return LinkError(
            "not asked: opening it may reset the board", code="may_reset", hint="--reset asks all the same"
        )
    return None


async def _ask(
    port: Port, gateway_id: str, bauds: Sequence[int], patience_s: float
) -> FoundDevice | GatewaydError:
    """Ask at each speed, in each protocol, until something answers."""
    silences: list[GatewaydError] = []
    kinds = [kind for kind in PROTOCOLS.values() if kind.is_asked_in_scans]
    for baud, kind in itertools.product(bauds, kinds):
        # By its node: what the name leads to may have changed since it was found free.
        link = UartLink(port.node, baud=baud)
        try:
            async with asyncio.timeout(patience_s + SPARE_S):
                info = await _identify(link, kind, gateway_id, baud, patience_s)
        except TimeoutError:
            return LinkError(f"{port.name} does not let itself be opened and closed", code="link_error")
        except GatewaydError as error:
            if not meaning(error.code).is_silence:
                return error
            silences.append(error)
        else:
            return FoundDevice(**identity(info, kind.name), baud=baud)
    # At one of several speeds what came instead of an answer may have made sense.
    return next((error for error in silences if error.code != Code.NO_ANSWER), silences[-1])


async def _identify(
    link: UartLink, kind: ProtocolKind, gateway_id: str, baud: int, patience_s: float
) -> DeviceInfo:
    settings = kind.settings and kind.settings()
    session = kind.make_session(SessionContext(gateway_id, baud=baud, settings=settings))
    return await ask_identity(link, session, patience_s)


def _told(port: Port, answer: FoundDevice | GatewaydError, configured_as: str | None) -> FoundPort:
    facts = FoundPort(
        port=port.name,
        node=port.node,
        kind=port.kind.value,
        description=port.description,
        configured_as=configured_as,
    )
    if isinstance(answer, FoundDevice):
        return facts.model_copy(update={"device": answer})
    changes = {"code": answer.code, "text": answer.message, "hint": answer.hint or None}
    return facts.model_copy(update=changes)
