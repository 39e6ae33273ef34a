"""The figures behind the metrics, as they cross the control socket; see `gatewayd.metrics`."""

from gatewayd.control.messages import DeviceView, Message, StatusResult, Time


class TrafficView(Message):
    """Bytes of images sent to a device since the start. `resumes`: how often it had some of them already."""

    device: str
    sent_bytes: int
    repeated_bytes: int
    resumes: int


class EndedJobs(Message):
    """How many jobs ended like this. `result`: the state they ended in."""

    app_id: str
    result: str
    code: str
    count: int


class Messages(Message):
    """How many messages came to this: `stored`, `known`, `withdrawn`, `nothing_to_withdraw`, `refused`."""

    outcome: str
    count: int


class ReleaseView(Message):
    """The release of a topic that is followed. `version`: None while its patch number cannot be read."""

    app_id: str
    line: str
    channel: str
    version: str | None
    received_at: Time


class LagHistogram(Message):
    """How late the event loop woke, since the start. `counts`: at most as late as each bound, cumulative."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    sum_s: float


class MetricsResult(Message):
    """Everything that the metrics are made of. What is counted begins at zero with each start."""

    status: StatusResult
    devices: tuple[DeviceView, ...]
    resident_bytes: int
    loop_lag: LagHistogram
    traffic: tuple[TrafficView, ...]
    jobs_ended: tuple[EndedJobs, ...]
    messages: tuple[Messages, ...]
    releases: tuple[ReleaseView, ...]
