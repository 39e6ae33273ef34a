"""The wear suite in its short form: each kind for a while, against the limit for an hour."""

import functools
from pathlib import Path

import pytest
from lab.jobs import timeless

from suites.wear.kinds import DEVICES
from suites.wear.meter import metering_log
from suites.wear.strangers import MESSAGES, published

# All limits allow most at first: what is not too much in this time is not too much in an hour either.
MINUTES_S = 600.0
LIMIT_BYTES = 1 << 20


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_that_brings_nothing_new_writes_little(tmp_path: Path, name: str) -> None:
    run = timeless(functools.partial(DEVICES[name], tmp_path, MINUTES_S))
    with metering_log() as log:
        assert run() < LIMIT_BYTES
    assert log.written * 3600 / MINUTES_S < LIMIT_BYTES


@pytest.mark.parametrize("name", MESSAGES)
def test_a_stranger_who_brings_nothing_new_writes_little(tmp_path: Path, name: str) -> None:
    run = timeless(functools.partial(published, tmp_path, MINUTES_S, MESSAGES[name]()))
    assert run() < LIMIT_BYTES
