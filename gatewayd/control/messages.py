"""Messages on the control socket, and the output of `gatewayctl --json`.

Request: `{"v": 1, "op": "devices", ...}`. Reply: `{"v": 1, "ok": true, "result": {...}}`, or
`{"v": 1, "ok": false, "error": {"code", "message", "hint"}}`. `watch` is answered with a reply for each
change. Within version 1 keys are added, never removed. Sizes are in bytes, times in UTC (ISO 8601, with a Z),
`code` as in docs/codes.md.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, WithJsonSchema

VERSION = 1

Time = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"})
]


class Message(BaseModel):
    """Base of all messages. Keys that a later version has added to an answer are ignored."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class RefusedMessage(Message):
    """Why the last message on a topic was refused before it was stored."""

    topic: str
    code: str
    reason: str


class Broker(Message):
    """The broker as the daemon sees it. `topics`: those requested; `subscribed`: those granted.

    `every_s`: None when always connected; `next_connection_at`: None unless disconnected until then.
    `left_out`: topics that it lets gatewayd not read, or not write.
    """

    host: str
    port: int
    connected: bool
    topics: tuple[str, ...]
    subscribed: tuple[str, ...]
    every_s: int | None = None
    next_connection_at: str | None = None
    refused_messages: tuple[RefusedMessage, ...] = ()
    left_out: tuple[RefusedMessage, ...] = ()


class PauseFact(Message):
    """Who paused it, and when."""

    by: str
    since: Time


class LoopLag(Message):
    """How late the event loop woke, over the last few minutes."""

    p50_ms: float
    p99_9_ms: float
    max_ms: float
    samples: int


class Trouble(Message):
    """Why the daemon cannot store anything, or with `login_unusable`, not log in to the broker."""

    code: str
    reason: str


class StatusResult(Message):
    """The daemon itself. `watchdog_s`: None without a watchdog; `online_since`: None when not connected.

    `config_revision`: of the configuration in force, as `gatewayctl config --effective` prints it;
    `config_refused`: why the file on disk is not in force, None if it is as far as the daemon knows.
    """

    gateway: str
    version: str
    pid: int
    started_at: Time
    online_since: Time | None = None
    config_file: str
    config_revision: str = ""
    config_refused: str | None = None
    state_dir: str
    devices: int
    active_jobs: int
    paused: PauseFact | None
    broker: Broker
    loop_lag: LoopLag
    watchdog_s: float | None
    trouble: Trouble | None


class Link(Message):
    """How a device is reached. `health`: ok, unknown (not used yet) or the code of the last failure."""

    kind: Literal["uart", "ble"]
    address: str
    baud: int | None
    health: str
    reason: str | None


class LastResult(Message):
    """How the last ended job went."""

    job: int
    version: str
    state: str
    code: str | None
    reason: str | None
    at: Time


class DeviceView(Message):
    """A device's current state. `hardware_id`, `device_id`: as it reported them; None: not reported.

    `bootloader`, `can_revert`: how a new image is started, and whether one that fails is taken back; None:
    the device does not say, or has not answered yet.
    """

    name: str
    app_id: str
    hardware_id: str | None
    device_id: str | None
    link: Link
    state: str
    paused: bool
    installed_version: str | None
    latest_version: str | None
    job: int | None
    attempt: int | None
    progress: int | None
    received_bytes: int | None
    image_bytes: int | None
    bytes_per_s: int | None
    seconds_left: int | None
    resumes: int | None
    code: str | None
    reason: str | None
    last_contact_at: Time | None
    last_result: LastResult | None
    bootloader: str | None = None
    can_revert: bool | None = None


class DevicesResult(Message):
    """Devices in configuration order. `config_refused`: why the file on disk is not in force."""

    gateway: str
    paused: PauseFact | None
    trouble: Trouble | None
    config_refused: str | None = None
    devices: tuple[DeviceView, ...]


class WatchResult(Message):
    """First every device, then each change."""

    gateway: str
    devices: tuple[DeviceView, ...]
    removed: tuple[str, ...]


class JobView(Message):
    """A job. `decision`: why it exists; `topic`: its release's, or `push:DEVICE`.

    `duration_s`: the total of its ended attempts.
    """

    id: int
    device: str
    from_version: str
    version: str
    state: str
    code: str | None
    reason: str | None
    topic: str
    decision: str
    created_at: Time
    updated_at: Time
    transfers: int
    failures: int
    resumes: int
    image_sha256: str | None
    image_bytes: int | None
    durable_bytes: int
    duration_s: float


class AttemptView(Message):
    """One attempt, or `times` identical failures in a row. `offset`: where the device resumed."""

    number: int
    times: int
    started_at: Time
    ended_at: Time | None
    duration_s: float
    offset: int | None
    received_bytes: int
    bytes_sent: int
    bytes_repeated: int
    resumes: int
    code: str | None
    reason: str | None


class JobsResult(Message):
    """Jobs, newest first."""

    jobs: tuple[JobView, ...]


class JobResult(Message):
    """A job with its attempts, oldest first."""

    job: JobView
    attempts: tuple[AttemptView, ...]


class EndOfJob(Message):
    """A job that would be ended."""

    job: int
    state: str
    code: str
    reason: str


Would = Literal["update", "ask for approval", "nothing"]


class Forecast(Message):
    """The planner's decision for a device. `topics`: those it follows; `follows`: the message's is one."""

    device: str
    topics: tuple[str, ...]
    follows: bool
    would: Would
    version: str | None
    refused: bool
    code: str
    reason: str
    ends: EndOfJob | None


class ExplainMessageResult(Message):
    """What a message would cause.

    `withdraws`: it is empty; `near_misses`: devices it just misses; `own_versions`: what its images say that
    they are.
    """

    topic: str
    size_bytes: int
    withdraws: bool
    devices: tuple[Forecast, ...]
    near_misses: tuple[str, ...] = ()
    own_versions: tuple[str, ...] = ()


class Assessment(Message):
    """One release assessed for one device, regardless of other releases."""

    topic: str
    version: str | None
    size_bytes: int
    received_at: Time
    code: str
    reason: str


class ExplainDeviceResult(Message):
    """Why a device gets an update, or does not."""

    forecast: Forecast
    paused: PauseFact | None
    releases: tuple[Assessment, ...]
    job: JobView | None


class SuspendedRelease(Message):
    """A release that the broker no longer has; `devices` follow its topic."""

    topic: str
    version: str | None
    size_bytes: int
    received_at: Time
    suspended_at: Time
    devices: tuple[str, ...]
    code: str
    reason: str


class SuspendedResult(Message):
    """Releases that are suspended, by topic, oldest first."""

    releases: tuple[SuspendedRelease, ...]


class Outcome(Message):
    """The result of a command for one device."""

    device: str
    job: int | None
    state: str | None
    text: str


class Error(Message):
    """Why a request failed. `mistakes`: those in a configuration, each with file and line."""

    code: str
    message: str
    hint: str = ""
    mistakes: tuple[str, ...] = ()


class Refusal(Message):
    """A target, as named in the request, for which nothing was done."""

    target: str
    error: Error


class OutcomesResult(Message):
    """Results by target; `refused`: targets that failed. A request with a single target fails instead."""

    outcomes: tuple[Outcome, ...]
    refused: tuple[Refusal, ...] = ()


class ReloadResult(Message):
    """What a reload changed, by device name; `mqtt`: gatewayd reconnects."""

    file: str
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    mqtt: bool
    warnings: tuple[str, ...]


class CheckConfigResult(Message):
    """The file as the daemon reads it now, with its own rights. Nothing was changed.

    `revision`: of what is in force; `in_force`: the file says the same; `error`: why a reload would be
    refused; the rest: what it would change.
    """

    file: str
    revision: str
    in_force: bool
    error: Error | None = None
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    mqtt: bool = False
    warnings: tuple[str, ...] = ()
