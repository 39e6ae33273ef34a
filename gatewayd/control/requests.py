"""Requests on the control socket: `{"v": 1, "op": "devices", ...}`, one line of JSON.

The answers are in `control.messages`; within version 1 keys are added, never removed.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from gatewayd.control.messages import Message

# Far larger than any request; a file is passed as a descriptor.
MAX_REQUEST_BYTES = 64 * 1024

Name = Annotated[str, Field(min_length=1, max_length=64)]
# Not what ends a line or moves a cursor: it is logged, stored and shown.
Person = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class Request(Message):
    """Base of all requests. A request with an unknown key is refused."""

    model_config = ConfigDict(extra="forbid")

    v: Literal[1] = 1


class Status(Request):
    """The daemon's own status."""

    op: Literal["status"] = "status"


class Devices(Request):
    """All devices, or those named."""

    op: Literal["devices"] = "devices"
    names: tuple[Name, ...] = Field((), max_length=1000)


class Watch(Request):
    """All devices, and then each that changes, until the connection ends."""

    op: Literal["watch"] = "watch"


class Jobs(Request):
    """The last jobs, newest first."""

    op: Literal["jobs"] = "jobs"
    device: Name | None = None
    active: bool = False
    limit: int = Field(50, ge=1, le=10_000)


class OneJob(Request):
    """One job with its attempts."""

    op: Literal["job"] = "job"
    id: int = Field(ge=1, le=2**63 - 1)


class ExplainMessage(Request):
    """What would a message cause? It is passed as a file descriptor."""

    op: Literal["explain_message"] = "explain_message"
    topic: str = Field(min_length=1, max_length=2048)


class ExplainDevice(Request):
    """Why does a device get an update, or not?"""

    op: Literal["explain_device"] = "explain_device"
    device: Name


class Suspended(Request):
    """Which releases does the broker no longer have?"""

    op: Literal["suspended"] = "suspended"


class Push(Request):
    """Push firmware to a device without MQTT; it is passed as a file descriptor.

    `line`: the step to the line of `version` is ordered with it.
    """

    op: Literal["push"] = "push"
    device: Name
    version: str = Field(min_length=1, max_length=64)
    line: bool = False


class Steer(Request):
    """Approve, cancel or retry: devices by name, or jobs by number.

    `reverted`: retry also an image that was given up. `on_behalf_of`: the person for whom a program asks, as
    it says; recorded beside the program's user.
    """

    op: Literal["approve", "cancel", "retry"]
    targets: tuple[Name, ...] = Field(min_length=1, max_length=1000)
    reverted: bool = False
    on_behalf_of: Person | None = None


class Hold(Request):
    """Pause or resume the named devices, or everything; `on_behalf_of` as above."""

    op: Literal["pause", "resume"]
    devices: tuple[Name, ...] = Field((), max_length=1000)
    on_behalf_of: Person | None = None


class Reload(Request):
    """Read the configuration again."""

    op: Literal["reload"] = "reload"


class Metrics(Request):
    """The figures behind the metrics."""

    op: Literal["metrics"] = "metrics"


class CheckConfig(Request):
    """What would a reload find? The daemon reads its file, with its own rights, and changes nothing."""

    op: Literal["check_config"] = "check_config"


# Those that are answered once and change nothing.
AnyQuery = (
    Status | Metrics | CheckConfig | Devices | Jobs | OneJob | ExplainMessage | ExplainDevice | Suspended
)
AnyRequest = Annotated[
    AnyQuery | Watch | Push | Steer | Hold | Reload,
    Field(discriminator="op"),
]
REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(AnyRequest)
