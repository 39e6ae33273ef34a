"""Find serial ports, and identify the devices on them.

A scan opens a port and asks the device for its identity, which changes nothing on it. Two rules come first:

- A port in use is left alone: one that a process has open (as far as /proc shows), one that belongs to a
  running gatewayd, the kernel's console, and one that is locked (flock, TIOCEXCL).
- A board is not reset unless that is allowed. Opening a port with DTR and RTS may already do it, because
  Linux raises both before a program can prevent it (link/ports.py). Such ports are listed, but not opened.

All ports are scanned at the same time; on each of them, speeds and protocols are tried in turn.
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
from gatewayd.protocol.session import TransferSession
from gatewayd.scan.answers import Answer, Frozen, ask_identity, identity

# A running device answers the first request or, if a frame is lost, the next one a quarter of a second later.
PATIENCE_S = 2.0
# A device that was reset boots first, for up to 3 s.
RESET_PATIENCE_S = 5.0
# Added for opening and closing the port, and for the silence that some protocols begin with.
SPARE_S = 8.0


class FoundDevice(Answer):
    """A device's identity, and the speed at which it answered.

    `settings`: those of its protocol that are not the defaults.
    """

    baud: int
    settings: Mapping[str, str] = {}


class FoundPort(Frozen):
    """A port. `code` and `text` say why there is no `device`; `configured_as` is a device's name."""

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
    """Identify the device on each port; the report keeps the order of the ports.

    Args:
        ports: the ports to scan.
        gateway_id: this gateway's own id, so that a device does not defer its transfers.
        bauds: speeds to try, in this order.
        may_reset: whether to open ports even if that may reset the board.
        configured: the configuration's devices by the node of their port.
        claimed: ports that belong to gatewayd, open now or not: by node, the reason to give.
    """
    ports = list(ports)
    holders = await asyncio.to_thread(find_holders, {port.node for port in ports})

    async def scan(port: Port) -> FoundPort:
        error = _reason_to_leave(port, holders.get(port.node), claimed, may_reset=may_reset)
        if error is None:
            patience_s = RESET_PATIENCE_S if port.may_reset else PATIENCE_S
            return _describe(port, await _ask(port, gateway_id, bauds, patience_s), configured.get(port.node))
        return _describe(port, error, configured.get(port.node))

    return ScanReport(ports=tuple(await asyncio.gather(*(scan(port) for port in ports))))


def _reason_to_leave(
    port: Port, holder: Holder | None, claimed: Mapping[str, str], *, may_reset: bool
) -> LinkError | None:
    """Return why a port is not to be opened; None if it may be."""
    if port.node in claimed:
        return LinkError(claimed[port.node], code="link_busy", hint="gatewayd identifies its devices itself")
    if holder is not None:
        return LinkError(f"in use by {holder}", code="link_busy", hint="stop it, then scan again")
    if port.is_console:
        hint = "remove console=… from the kernel command line to use it for a device"
        return LinkError("in use by the kernel for its console", code="link_busy", hint=hint)
    if port.may_reset and not may_reset:
        return LinkError(
            "not opened: opening it may reset the board", code="may_reset", hint="--reset opens it anyway"
        )
    return None


async def _ask(
    port: Port, gateway_id: str, bauds: Sequence[int], patience_s: float
) -> FoundDevice | GatewaydError:
    """Ask at each speed, in each protocol, until something answers."""
    silences: list[GatewaydError] = []
    kinds = [kind for kind in PROTOCOLS.values() if kind.is_asked_in_scans]
    ways = [(kind, settings) for kind in kinds for settings in kind.scan_settings]
    for baud, (kind, settings) in itertools.product(bauds, ways):
        # Open the node: the name may lead elsewhere since the port was found free.
        link = UartLink(port.node, baud=baud)
        try:
            async with asyncio.timeout(patience_s + SPARE_S):
                info = await ask_identity(link, _session(kind, settings, gateway_id, baud), patience_s)
        except TimeoutError:
            return LinkError(f"timed out opening or closing {port.name}", code="link_error")
        except GatewaydError as error:
            if not meaning(error.code).is_silence:
                return error
            silences.append(error)
        else:
            return FoundDevice(**identity(info, kind.name), baud=baud, settings=settings)
    # Prefer an error that says more than silence, which one of the speeds may have given.
    return next((error for error in silences if error.code != Code.NO_ANSWER), silences[-1])


def _session(kind: ProtocolKind, settings: Mapping[str, str], gateway_id: str, baud: int) -> TransferSession:
    chosen = kind.settings and kind.settings(**settings)
    return kind.make_session(SessionContext(gateway_id, baud=baud, settings=chosen, only_identifies=True))


def _describe(port: Port, answer: FoundDevice | GatewaydError, configured_as: str | None) -> FoundPort:
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
