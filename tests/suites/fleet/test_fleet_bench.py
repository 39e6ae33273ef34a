"""What `make fleet-bench` prints, when it says no, and that it works with few gateways."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suites.fleet.__main__ import VERSION, Fleet, Found, measure, misses, report

GATEWAY = {"status": "online", "devices": [{}, {}]}
GOOD = Found(
    gateways=2,
    devices=4,
    image_bytes=1000,
    message_bytes=1284,
    ready_s=2.0,
    succeeded_s=[1.0, 2.0, 4.0, 8.0],
    failed={},
    more_attempts=1,
    reports=20,
    traffic_bytes={"in": 8192, "out": 10_240},
    observed_bytes=2048,
    broker_cpu_s=0.125,
    broker_rss_mib=9.5,
    fleet_status_s=2.5,
    fleet_status={"ok": True, "gateways": [GATEWAY, GATEWAY]},
    troubles=[],
)


def test_nothing_is_missed() -> None:
    assert not list(misses(GOOD))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"failed": {"gw-001/pump-0": "no_answer: silent"}}, "gw-001/pump-0: no_answer: silent"),
        ({"succeeded_s": [1.0, 2.0, 4.0]}, "3 of 4 devices succeeded"),
        ({"fleet_status": GOOD.fleet_status | {"ok": False}}, "fleet status tells of 2 gateways"),
        ({"fleet_status": {"ok": True, "gateways": [GATEWAY]}}, "fleet status tells of 1 gateways"),
        ({"troubles": ["connection lost"]}, "connection lost"),
    ],
)
def test_each_miss_is_named(changes: dict[str, Any], says: str) -> None:
    (miss,) = misses(replace(GOOD, **changes))
    assert miss.startswith(says)


def test_the_report_leaves_out_what_the_observer_heard() -> None:
    text = report(GOOD)
    assert "| succeeded after: first, median, last | 1.0, 3.0, 8.0 s |" in text
    assert "| to the broker | 8 KiB, 4.0 from each gateway |" in text
    assert "| from the broker to gateways | 8 KiB, 4.0 to each |" in text


def test_a_small_fleet(tmp_path: Path) -> None:
    with Fleet(tmp_path, gateways=3, devices=2, processes=2) as fleet:
        found = asyncio.run(measure(fleet, bytes(5000)))
    assert not list(misses(found))
    assert {
        device["installed_version"] for one in found.fleet_status["gateways"] for device in one["devices"]
    } == {VERSION}
    assert found.traffic_bytes["in"] > found.message_bytes
