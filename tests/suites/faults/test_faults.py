"""The store on a disk that fails: some points of `make faults`, and controls that it must catch."""

import contextlib
import os
from typing import Any
from unittest import mock

import pytest

from gatewayd.errors import HostError
from gatewayd.store.store import Store
from suites.faults.story import Account
from suites.faults.sweep import reference, table, try_point
from suites.faults.tracer import Point


@pytest.fixture(name="whole", scope="module")
def _whole() -> tuple[Account, list[Point]]:
    return reference()


def test_some_points_at_which_the_disk_fails(whole: tuple[Account, list[Point]]) -> None:
    expected, points = whole
    openings = [point for point in points if point.call == "openat" and point.lasting]
    results = [try_point(point, expected) for point in [*points[::41], *openings[::4]]]
    assert not [result for result in results if result.wrong], table(results)
    assert len(results) > 25
    assert sum(result.showed for result in results) > 10


class Liar(Store):
    """Acknowledges what it could not store."""

    async def add_release(self, *args: Any, **more: Any) -> bool:
        try:
            return await super().add_release(*args, **more)
        except HostError:
            return True


def test_an_acknowledgement_without_a_commit_is_caught(whole: tuple[Account, list[Point]]) -> None:
    expected, points = whole
    point = next(one for one in points if one.call == "rename" and one.error == "ENOSPC")
    assert not try_point(point, expected).wrong
    assert any("releases" in wrong for wrong in try_point(point, expected, Liar).wrong)


def test_a_sync_whose_failure_is_ignored_is_caught(whole: tuple[Account, list[Point]]) -> None:
    expected, points = whole
    point = next(one for one in points if one.call == "fsync" and one.error == "EIO" and one.promises)
    real = os.fsync

    def fsync(handle: Any) -> None:
        with contextlib.suppress(OSError):
            real(handle)

    assert not try_point(point, expected).wrong
    with mock.patch("os.fsync", fsync):
        assert try_point(point, expected).wrong == ("nobody noticed",)
