"""The protocols that gatewayd speaks. A new one is a folder beside this file, and a line here."""

from gatewayd.protocol.kind import ProtocolKind
from gatewayd.protocol.rcp.kind import RCP
from gatewayd.protocol.smp.kind import SMP

PROTOCOLS: dict[str, ProtocolKind] = {kind.name: kind for kind in (RCP, SMP)}

# Of devices whose configuration names none.
DEFAULT_PROTOCOL = RCP.name
