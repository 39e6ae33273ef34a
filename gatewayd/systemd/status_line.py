"""How things stand, in the one line that `systemctl status` shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatewayd.config import Settings
from gatewayd.errors import GatewaydError
from gatewayd.jobs.transitions import JobState
from gatewayd.status.board import DeviceStatus, StatusBoard, Unwell
from gatewayd.status.gateway import BrokerStatus
from gatewayd.store.store import Store

# How many transfers are named: a line has no room for more.
NAMED = 3
UPDATING = (JobState.TRANSFERRING, JobState.STAGED, JobState.ACTIVATING)
TOLD = (Unwell.UNREACHABLE, Unwell.REFUSED, JobState.OFFERED, JobState.QUEUED, JobState.FAILED)


@dataclass(frozen=True)
class StatusLine:
    """Where the line comes from. `refusal`: why the configuration on disk is not in force, or nothing."""

    settings: Callable[[], Settings]
    board: StatusBoard
    store: Store
    broker: Callable[[], BrokerStatus]
    refusal: Callable[[], str]

    def text(self) -> str:
        """How things stand now."""
        return status_line(
            self.board.all(),
            self.broker(),
            configured=len(self.settings().devices),
            trouble=self.store.trouble,
            refusal=self.refusal(),
            login=self.settings().mqtt.unusable,
        )


def status_line(
    devices: Sequence[DeviceStatus],
    broker: BrokerStatus,
    *,
    configured: int,
    trouble: GatewaydError | None = None,
    refusal: str = "",
    login: str = "",
) -> str:
    """How things stand; what a person has to look after comes first.

    `devices` are those of the `configured` that something is known of.
    """
    cares = [f"the new configuration is refused, the old one is in force: {refusal}"] if refusal else []
    if login:
        cares.append(f"no connection to the broker: {login}")
    if trouble is not None:
        cares.append(f"nothing can be stored: {trouble} ({trouble.code})")
    if not configured:
        return "; ".join([*cares, "no devices configured"])
    updating = [one for one in devices if one.state in UPDATING]
    counts = {state: sum(one.state == state for one in devices) for state in TOLD}
    told = [
        f"{configured} device{'' if configured == 1 else 's'}",
        *([f"{len(updating)} updating ({_named(updating)})"] if updating else []),
        *(f"{count} {state}" for state, count in counts.items() if count),
        _connection(broker),
    ]
    return "; ".join([*cares, ", ".join(told)])


def _connection(broker: BrokerStatus) -> str:
    if broker.next_connection_in_s is not None:
        return "sleeping (mqtt.connect)"
    return "broker connected" if broker.is_connected else "broker not connected"


def _named(updating: Sequence[DeviceStatus]) -> str:
    names = [f"{one.name} {one.progress or 0} %" for one in updating[:NAMED]]
    return ", ".join(names) + (", …" if len(updating) > NAMED else "")
