"""The protocols that gatewayd speaks. A new one is a folder beside this file, and a line here."""

from gatewayd.protocol.kind import ProtocolKind
from gatewayd.protocol.rcp.kind import RCP
from gatewayd.protocol.smp.kind import SMP

PROTOCOLS: dict[str, ProtocolKind] = {kind.name: kind for kind in (RCP, SMP)}

# For devices whose configuration names none.
DEFAULT_PROTOCOL = RCP.name


def kind_of_image(content: bytes | memoryview) -> ProtocolKind | None:
    """Return the protocol whose images begin as this one does; None: it may be any protocol's."""
    for kind in PROTOCOLS.values():
        if kind.image_magic and bytes(content[: len(kind.image_magic)]) == kind.image_magic:
            return kind
    return None
