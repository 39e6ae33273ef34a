"""What there is to tell, and in which words. Pure.

An event has a key: the job that failed, the code and the version that were refused. Two events of a device
with the same name and key are one, however often they are seen.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from gatewayd.control.messages import DeviceView, JobView, StatusResult

FAILED, SUCCEEDED, REFUSED, UNREACHABLE, OFFERED = "failed", "succeeded", "refused", "unreachable", "offered"
# Of the gateway itself.
TROUBLE = "trouble"
NAMES = (FAILED, REFUSED, TROUBLE, UNREACHABLE, OFFERED, SUCCEEDED)
DEFAULT = (FAILED, REFUSED, TROUBLE)
# Of several that are told together.
SEVERAL = "several"
# Those that are a job's, whose number is their key.
OF_JOBS = frozenset({FAILED, SUCCEEDED, OFFERED})
# Those that may come again with the same key once they were over; others are about one job or release.
RECURRING = frozenset({TROUBLE, UNREACHABLE})

# A reason quotes what devices and publishers say. Mail and phone have no use for more.
LONGEST_TEXT = 500
LONGEST_SUMMARY = 120
_MOST_LINES = 50


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to tell. `device`: empty if it is about the gateway."""

    name: str
    device: str
    key: str
    app_id: str = ""
    version: str = ""
    code: str = ""
    reason: str = ""


def of_device(view: DeviceView) -> Event | None:
    """Return what a device's state is to tell; None for a state that is no event, and while it is paused."""
    if view.paused or view.state not in NAMES:
        return None
    version, code = view.latest_version or "", view.code or ""
    if view.state in OF_JOBS:
        key = str(view.job or 0)
    else:
        key = f"{code} {version}" if view.state == REFUSED else code
    return Event(view.state, view.name, key, view.app_id, version, code, view.reason or "")


def of_jobs(jobs: Iterable[JobView], apps: Mapping[str, str]) -> Iterator[Event]:
    """Yield the last job of each device that failed, and the last that succeeded; `jobs`: newest first."""
    seen = set()
    for job in jobs:
        if job.state not in (FAILED, SUCCEEDED) or (job.device, job.state) in seen:
            continue
        seen.add((job.device, job.state))
        app_id = apps.get(job.device, "")
        yield Event(job.state, job.device, str(job.id), app_id, job.version, job.code or "", job.reason or "")


def of_gateway(status: StatusResult) -> Event | None:
    """Return what is wrong with the gateway itself, if anything is."""
    if status.trouble is not None:
        code, reason = status.trouble.code, status.trouble.reason
    elif status.config_refused is not None:
        code, reason = "bad_configuration", status.config_refused
    else:
        return None
    return Event(TROUBLE, "", code, code=code, reason=reason)


def environment(gateway: str, events: Sequence[Event]) -> dict[str, str]:
    """Return the variables that tell of events; those of a device are empty if there are several."""
    one = events[0] if len(events) == 1 else Event(SEVERAL, "", "")
    return {
        "GATEWAYD_GATEWAY": _line(gateway),
        "GATEWAYD_EVENT": one.name,
        "GATEWAYD_COUNT": str(len(events)),
        "GATEWAYD_DEVICE": _line(one.device),
        "GATEWAYD_APP": _line(one.app_id),
        "GATEWAYD_VERSION": _line(one.version),
        "GATEWAYD_CODE": _line(one.code),
        "GATEWAYD_REASON": _line(one.reason),
        "GATEWAYD_NEXT_STEP": next_step(one.code),
        "GATEWAYD_SUMMARY": summary(gateway, events),
    }


def summary(gateway: str, events: Sequence[Event]) -> str:
    """Return one line, for a subject."""
    first = f"{gateway}: {_what(events[0])}"
    return _line(first if len(events) == 1 else f"{first}, and {len(events) - 1} more", LONGEST_SUMMARY)


def text(events: Sequence[Event]) -> str:
    """Return all of it, for people: a line for what happened, one for the reason, one for the next step."""
    lines = []
    for event in events[:_MOST_LINES]:
        lines.append(_line(_what(event)))
        if event.reason:
            lines.append(f"  {_line(event.reason)}")
        if step := next_step(event.code):
            lines.append(f"  Next: {step}")
    if len(events) > _MOST_LINES:
        lines.append(f"and {len(events) - _MOST_LINES} more: `gatewayctl devices` lists them")
    return "\n".join(lines) + "\n"


def next_step(code: str) -> str:
    """Return the next step of docs/codes.md, or nothing."""
    return _catalogue().get(f"next.{code}", "")


@cache
def _catalogue() -> dict[str, str]:
    texts: dict[str, str] = json.loads((files("gatewayd") / "web" / "texts" / "en.json").read_text())
    return texts


def _what(event: Event) -> str:
    match event.name:
        case "failed":
            update = f"the update to {event.version}" if event.version else "the update"
            told = f"{event.device}: {update} failed"
        case "succeeded":
            told = f"{event.device} runs {event.version}"
        case "refused":
            told = f"{event.device} refuses {event.version or 'what was published'}"
        case "offered":
            told = f"{event.device}: {event.version} waits for approval"
        case "unreachable":
            told = f"{event.device} does not answer"
        case _:
            told = "the gateway has trouble"
    return told + (f" ({event.code})" if event.code else "")


def _line(told: str, longest: int = LONGEST_TEXT) -> str:
    """Make one short line of it: no control characters, and nothing that a mail's header could break at."""
    line = "".join(letter if letter.isprintable() else " " for letter in told)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
