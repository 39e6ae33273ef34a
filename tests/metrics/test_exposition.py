"""The text that Prometheus reads, read back by the library's own parser."""

from typing import Any

import pytest
from lab.daemon_status import a_status
from lab.web import NOW, a_view
from prometheus_client.parser import text_string_to_metric_families

from gatewayd.codes import Code
from gatewayd.control.metrics_messages import (
    EndedJobs,
    LagHistogram,
    Messages,
    MetricsResult,
    ReleaseView,
    TrafficView,
)
from gatewayd.jobs.transitions import ENDED, JobState
from gatewayd.metrics import PENDING, RESULTS, STATES, exposition
from gatewayd.status.board import Unwell

AT = 1795867200.0  # NOW


def a_result(**facts: Any) -> MetricsResult:
    usual: dict[str, Any] = {
        "status": a_status(started_at=NOW),
        "devices": (a_view(),),
        "resident_bytes": 50_000_000,
        "loop_lag": LagHistogram(bounds_s=(0.01, 0.1), counts=(7, 9), count=10, sum_s=1.5),
        "traffic": (TrafficView(device="pump-1", sent_bytes=3000, repeated_bytes=20, resumes=1),),
        "jobs_ended": (EndedJobs(app_id="pump", result="failed", code="reverted", count=2),),
        "messages": (Messages(outcome="stored", count=4),),
        "releases": (
            ReleaseView(app_id="pump", line="4.3", channel="none", version="4.3.2", received_at=NOW),
        ),
    }
    return MetricsResult(**usual | facts)


def samples(found: MetricsResult) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Name and labels -> value."""
    return {
        (sample.name.removeprefix("gatewayd_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition(found))
        for sample in family.samples
    }


def value(found: MetricsResult, name: str, **labels: str) -> float | None:
    return samples(found).get((name, frozenset(labels.items())))


PUMP = {"device": "pump-1", "app": "pump"}


def test_the_gateway() -> None:
    found = a_result()
    assert value(found, "build_info", version="1.0.0", gateway="barn") == 1
    assert value(found, "start_time_seconds") == AT
    assert value(found, "resident_memory_bytes") == 50_000_000
    assert [value(found, one) for one in ("broker_connected", "config_in_force", "storage_ok")] == [1, 1, 1]
    assert value(found, "devices") == 1
    assert (
        value(
            found,
            "release_received_timestamp_seconds",
            app="pump",
            line="4.3",
            channel="none",
            version="4.3.2",
        )
        == AT
    )


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"broker": {"connected": False}}, "broker_connected"),
        ({"config_refused": "config.yaml:3: no"}, "config_in_force"),
        ({"trouble": {"code": "disk_full", "reason": "no room"}}, "storage_ok"),
    ],
)
def test_what_is_wrong_is_0(facts: dict[str, Any], name: str) -> None:
    assert value(a_result(status=a_status(started_at=NOW, **facts)), name) == 0


def test_a_login_that_cannot_be_used_is_no_trouble_of_the_store() -> None:
    trouble = {"code": "login_unusable", "reason": "no such file"}
    assert value(a_result(status=a_status(started_at=NOW, trouble=trouble)), "storage_ok") == 1


def test_each_result_is_there_before_it_is_counted() -> None:
    found = a_result()
    there = {
        result: value(found, "jobs_ended_total", app="pump", result=result, code="") for result in RESULTS
    }
    assert there == dict.fromkeys(RESULTS, 0)
    assert set(RESULTS) == {str(state) for state in JobState if state in ENDED}


def test_lag_is_a_histogram() -> None:
    found = a_result()
    buckets = [value(found, "event_loop_lag_seconds_bucket", le=le) for le in ("0.01", "0.1", "+Inf")]
    assert buckets == [7, 9, 10]
    assert value(found, "event_loop_lag_seconds_count") == 10
    assert value(found, "event_loop_lag_seconds_sum") == 1.5


def test_counters() -> None:
    found = a_result()
    names = ("transfer_sent_bytes_total", "transfer_repeated_bytes_total", "transfer_resumes_total")
    assert [value(found, name, **PUMP) for name in names] == [3000, 20, 1]
    assert value(found, "jobs_ended_total", app="pump", result="failed", code="reverted") == 2
    assert value(found, "messages_total", outcome="stored") == 4
    assert "_created" not in exposition(found)


def test_a_device_that_is_under_way() -> None:
    view = a_view(state="transferring", progress=43, last_contact_at=NOW, latest_version="4.3.2")
    found = a_result(devices=(view,))
    states = {one: value(found, "device_state", state=one, **PUMP) for one in STATES}
    assert states == {one: float(one == "transferring") for one in STATES}
    assert value(found, "device_update_pending", **PUMP) == 1
    assert value(found, "device_progress_ratio", **PUMP) == 0.43
    assert value(found, "device_last_contact_timestamp_seconds", **PUMP) == AT
    assert value(found, "device_link_up", **PUMP) == 1


def test_what_is_not_known_is_left_out() -> None:
    link = a_view().link.model_copy(update={"health": "unknown"})
    found = a_result(devices=(a_view(state="unknown", link=link),))
    assert value(found, "device_link_up", **PUMP) is None
    assert value(found, "device_progress_ratio", **PUMP) is None
    assert value(found, "device_last_contact_timestamp_seconds", **PUMP) is None
    assert value(found, "device_update_pending", **PUMP) == 0


@pytest.mark.parametrize("code", [Code.NO_ANSWER, Code.PAIRING_FAILED, Code.PORT_SHARED])
def test_a_device_that_is_not_heard(code: Code) -> None:
    link = a_view().link.model_copy(update={"health": str(code)})
    assert value(a_result(devices=(a_view(state="unreachable", link=link),)), "device_link_up", **PUMP) == 0


def test_every_state_of_the_program_has_its_series() -> None:
    assert set(STATES) == {*map(str, JobState), *map(str, Unwell), "idle", "unknown"}
    assert {str(state) for state in JobState} >= PENDING


def test_a_name_may_hold_what_it_likes() -> None:
    name = 'pump "1"\\\n'
    found = a_result(devices=(a_view(name),), traffic=())
    assert value(found, "device_update_pending", device=name, app="pump") == 0
