"""The benchmark of SMP by Bluetooth: its time is virtual, so that tests may ask for our side of it."""

from lab.smp.memory import firmware

from suites.bench import smp_radio
from suites.bench.goals import misses
from suites.bench.smp_radio import (
    INTERVAL_MS,
    LEAST_RATIO,
    QUICK_BYTES,
    Cell,
    measure_in_virtual_time,
    upload,
)

CONTENT = firmware(1, QUICK_BYTES)


def test_our_upload_does_not_wait_for_each_answer() -> None:
    """One request at a time takes two connection events: it carries no more than a buffer in them."""
    cell = Cell(247, 384)
    one_at_a_time = cell.buffer_size / (2 * INTERVAL_MS / 1000)
    measured = measure_in_virtual_time(cell, CONTENT, upload)
    assert measured.bytes_per_s > LEAST_RATIO * one_at_a_time


def test_a_ratio_below_its_goal_is_named() -> None:
    row = {"mtu": 247, "buffer": 384, "ratio": 1.4, "goal": 1.5}
    assert list(misses({"smp_ble": [row]})) == [
        "SMP, buffer 384, 247 bytes of MTU by Bluetooth: 1.4 times smpclient's speed, the goal is 1.5"
    ]
    assert not list(misses({"smp_ble": [row | {"ratio": 1.5}]}))
    assert not list(misses({"smp_ble": {"absent": "smpclient is not installed"}}))


def test_the_table_says_what_is_absent() -> None:
    assert smp_radio.table({"absent": "no smpclient"}) == "absent: no smpclient"
