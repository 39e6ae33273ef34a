"""What the page shows of devices and gateway: what the socket says, the group, and the buttons.

Pure. A group says whose turn it is; the page has a section for each.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from gatewayd.codes import Again, Code, Contact, Fault, meaning
from gatewayd.control.messages import DeviceView, JobView, Link, StatusResult

# States of a job that is on its way; the others are decided below.
_MOVING = frozenset({"transferring", "staged", "activating"})
_CANCELLABLE = frozenset({"offered", "queued", "transferring", "staged"})
_UNWELL = frozenset({"failed", "refused", "unreachable"})
_UNUSED = frozenset({"ok", "unknown"})
# What a job that waits cannot get over by itself.
_STUCK = frozenset({Fault.LINE, Fault.MACHINE, Fault.CONFIGURATION, Fault.PUBLISHER})


class Group(StrEnum):
    """Whose turn it is."""

    NEEDS = "needs"  # something is wrong, and it takes somebody to mend it
    WAITS = "waits"  # a person's word is all that is missing
    MOVING = "moving"  # under way, or about to be
    FINE = "fine"


def device_card(view: DeviceView) -> dict[str, Any]:
    """Describe a device: the socket's own fields, and what follows from them."""
    return view.model_dump() | {
        "group": group_of(view),
        "actions": actions_for(view),
        "told": not (view.code is None or meaning(view.code).is_well),
    }


def group_of(view: DeviceView) -> Group:
    """Return whose turn it is."""
    if view.state in _MOVING:
        return Group.MOVING
    if view.paused or view.state == "offered":
        return Group.WAITS
    if view.state in _UNWELL:
        return Group.NEEDS
    if view.state == "queued":
        return Group.NEEDS if view.code and _is_stuck(view.code) else Group.MOVING
    return Group.NEEDS if _is_cut_off(view.link) else Group.FINE


def actions_for(view: DeviceView) -> list[str]:
    """Return the commands that the daemon would carry out now, the likeliest first."""
    found = []
    if view.state == "offered":
        found.append("approve")
    if view.paused:
        found.append("resume")
    elif _is_retriable(view):
        found.append("retry")
    elif view.state == "failed":
        found.append("retry_reverted")  # the image was given up; a person may order one more try
    if view.job is not None and view.state in _CANCELLABLE:
        found.append("cancel")
    if not view.paused and view.state != "activating":
        found.append("pause")
    return found


def gateway_card(status: StatusResult) -> dict[str, Any]:
    """Describe the daemon itself. Nothing of its files: they are no business of who looks at a page."""
    broker = status.broker
    return {
        "gateway": status.gateway,
        "version": status.version,
        "started_at": status.started_at,
        "paused": status.paused and status.paused.model_dump(),
        "broker": {
            "address": f"{broker.host}:{broker.port}",
            "connected": broker.connected,
            "next_connection_at": broker.next_connection_at,
        },
        "problems": _problems(status),
    }


def job_row(job: JobView) -> Mapping[str, Any]:
    """Describe a job in a device's history."""
    return job.model_dump(exclude={"image_sha256", "durable_bytes"})


def _is_stuck(code: str) -> bool:
    said = meaning(code)
    return said.fault in _STUCK or said.contact is Contact.STRANGER


def _is_cut_off(link: Link) -> bool:
    return link.health not in _UNUSED


def _is_retriable(view: DeviceView) -> bool:
    match view.state:
        case "failed":
            return meaning(view.code or "").again is not Again.NEVER
        case "queued":
            return view.code is not None
        case "unreachable" | "unknown":
            return True
        case "idle":
            return view.code == Code.CANCELLED or _is_cut_off(view.link)
    return False


def _problems(status: StatusResult) -> list[dict[str, str]]:
    """Return what is wrong with the gateway as a whole: `about`, `code` and `reason`, each a text."""
    broker = status.broker
    found = []
    if status.config_refused is not None:
        found.append(_problem("configuration", Code.BAD_CONFIGURATION, status.config_refused))
    if status.trouble is not None:
        found.append(_problem("storage", status.trouble.code, status.trouble.reason))
    if not broker.connected and broker.next_connection_at is None:
        found.append(_problem("broker", Code.NOT_CONNECTED))
    told = {one.topic for one in broker.left_out}
    unsubscribed = sorted(set(broker.topics) - set(broker.subscribed) - told) if broker.connected else ()
    found += [_problem(topic, Code.SUBSCRIPTION_REFUSED) for topic in unsubscribed]
    found += [
        _problem(one.topic, one.code, one.reason) for one in (*broker.left_out, *broker.refused_messages)
    ]
    return found


def _problem(about: str, code: str, reason: str = "") -> dict[str, str]:
    return {"about": about, "code": str(code), "reason": reason}
