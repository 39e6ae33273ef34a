"""What is known of the gateway itself: its broker, its configuration, its event loop."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gatewayd import __version__
from gatewayd.config import Settings
from gatewayd.config.revision import revision_of
from gatewayd.errors import GatewaydError, HostError
from gatewayd.status.board import StatusBoard
from gatewayd.timestamps import utc_text

# A configuration may have thousands of mistakes; the first few are enough to begin with.
REFUSAL_LINES, REFUSAL_CHARACTERS = 5, 1000


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The broker as the gateway sees it.

    Attributes:
        online_since: when the present connection was made; None without one.
        wanted: the topics to be subscribed to.
        granted: those of them that the broker has granted.
        next_connection_in_s: until then the gateway sleeps; None: it does not.
        refused: why the last message on a topic was refused before it was stored.
        left_out: topics that the broker lets us not read, or not write, and why.
    """

    is_connected: bool = False
    online_since: datetime | None = None
    wanted: frozenset[str] = frozenset()
    granted: frozenset[str] = frozenset()
    next_connection_in_s: float | None = None
    refused: Mapping[str, GatewaydError] = field(default_factory=dict)
    left_out: Mapping[str, GatewaydError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LagFigures:
    """The event loop's lag over the last ten minutes, or since it began; zeros without samples."""

    p50_ms: float = 0.0
    p99_9_ms: float = 0.0
    max_ms: float = 0.0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class LagHistogram:
    """The event loop's lag since the start. `counts`: ticks at most as late as each bound, cumulative."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    sum_s: float


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """The gateway itself, as it is published.

    Attributes:
        config_revision: of the configuration that is in force; see `config.revision`.
        config_refused: why the file on disk is not in force; empty when it is, as far as is known.
        devices: how many of them are in each state.
        trouble: `code` and `reason` of why nothing can be stored, or no connection be made; or None.
        updated_at: when anything else of this changed.
    """

    version: str
    started_at: datetime
    online_since: datetime | None
    config_revision: str
    config_refused: str
    devices: Mapping[str, int]
    trouble: Mapping[str, str] | None
    updated_at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return the document that is published; times in UTC, ISO 8601."""
        since = self.online_since
        return {
            "version": self.version,
            "started_at": utc_text(self.started_at),
            "online_since": since and utc_text(since),
            "config_revision": self.config_revision,
            "config_refused": self.config_refused or None,
            "devices": dict(self.devices),
            "trouble": self.trouble and dict(self.trouble),
            "updated_at": utc_text(self.updated_at, "milliseconds"),
        }

    def to_bytes(self) -> bytes:
        """Return `to_json` as compact UTF-8."""
        return json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":")).encode()


class GatewayStatusReader:
    """Puts the gateway's status together whenever it is asked for."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        board: StatusBoard,
        *,
        online_since: Callable[[], datetime | None],
        refusal: Callable[[], str],
        trouble: Callable[[], GatewaydError | None],
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._board = settings, board
        self._online_since, self._refusal, self._trouble = online_since, refusal, trouble
        self._clock = clock
        self._started_at = clock()
        self._revision: tuple[Settings, str] | None = None
        self._last: GatewayStatus | None = None

    def read(self) -> GatewayStatus:
        """Return the present status; `updated_at` moves when anything else does."""
        settings, trouble = self._settings(), self._trouble()
        known = (self._board.get(device.name) for device in settings.devices)
        now = GatewayStatus(
            version=__version__,
            started_at=self._started_at,
            online_since=self._online_since(),
            config_revision=self._revision_of(settings),
            config_refused=shortened(self._refusal()),
            devices=Counter(status.state if status else "unknown" for status in known),
            trouble={"code": trouble.code, "reason": str(trouble)} if trouble else None,
            updated_at=self._last.updated_at if self._last else self._clock(),
        )
        if now != self._last:
            self._last = replace(now, updated_at=self._clock())
        return self._last

    def _revision_of(self, settings: Settings) -> str:
        if self._revision is None or self._revision[0] is not settings:
            self._revision = settings, revision_of(settings)
        return self._revision[1]


def login_trouble(settings: Settings) -> HostError | None:
    """Why there can be no connection to the broker: a file for it cannot be used."""
    return HostError(settings.mqtt.unusable, code="login_unusable") if settings.mqtt.unusable else None


def shortened(refusal: str) -> str:
    """Return the first lines of why a configuration is refused, and how many follow."""
    lines = refusal.splitlines()
    more = f"\nand {len(lines) - REFUSAL_LINES} more" if len(lines) > REFUSAL_LINES else ""
    text = "\n".join(lines[:REFUSAL_LINES])
    return (text if len(text) <= REFUSAL_CHARACTERS else f"{text[: REFUSAL_CHARACTERS - 1]}…") + more
