"""What a daemon says of itself when asked, for tests of those who ask."""

from typing import Any

from gatewayd.control.messages import Broker, LoopLag, StatusResult


def a_status(**values: Any) -> StatusResult:
    """All is well, but for `values`; `broker` and `lag_ms` change a part."""
    broker = Broker(host="mq", port=1883, connected=True, topics=("/a", "/b"), subscribed=("/a", "/b"))
    facts: dict[str, Any] = {
        "gateway": "barn",
        "version": "1.0.0",
        "pid": 77,
        "started_at": "",
        "config_file": "",
        "state_dir": "",
        "devices": 1,
        "active_jobs": 0,
        "paused": None,
        "broker": broker.model_copy(update=values.pop("broker", {})),
        "loop_lag": LoopLag(p50_ms=0.1, p99_9_ms=values.pop("lag_ms", 5.0), max_ms=200.0, samples=6000),
        "watchdog_s": None,
        "trouble": None,
    }
    return StatusResult(**facts | values)
