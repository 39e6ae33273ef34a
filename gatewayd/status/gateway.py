"""What is known of the gateway itself: its broker, and its event loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewayd.errors import GatewaydError


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The broker as the gateway sees it.

    Attributes:
        wanted: the topics to be subscribed to.
        granted: those of them that the broker has granted.
        next_connection_in_s: until then the gateway sleeps; None: it does not.
        refused: why the last message on a topic was refused before it was stored.
    """

    is_connected: bool = False
    wanted: frozenset[str] = frozenset()
    granted: frozenset[str] = frozenset()
    next_connection_in_s: float | None = None
    refused: Mapping[str, GatewaydError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LagFigures:
    """The event loop's lag over the last ten minutes, or since it began; zeros without samples."""

    p50_ms: float = 0.0
    p99_9_ms: float = 0.0
    max_ms: float = 0.0
    samples: int = 0
