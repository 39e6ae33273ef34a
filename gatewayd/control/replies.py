"""What the daemon answers on the control socket: one line of JSON for each answer."""

from typing import Literal

from gatewayd.control.messages import (
    CheckConfigResult,
    DevicesResult,
    Error,
    ExplainDeviceResult,
    ExplainMessageResult,
    JobResult,
    JobsResult,
    Message,
    OutcomesResult,
    ReloadResult,
    StatusResult,
    SuspendedResult,
    WatchResult,
)
from gatewayd.control.metrics_messages import MetricsResult

Result = (
    StatusResult
    | DevicesResult
    | WatchResult
    | JobsResult
    | JobResult
    | ExplainMessageResult
    | ExplainDeviceResult
    | SuspendedResult
    | OutcomesResult
    | ReloadResult
    | CheckConfigResult
    | MetricsResult
)


class Success(Message):
    """The answer to a request."""

    v: Literal[1] = 1
    ok: Literal[True] = True
    result: Result


class Failure(Message):
    """The answer to a request that failed."""

    v: Literal[1] = 1
    ok: Literal[False] = False
    error: Error
