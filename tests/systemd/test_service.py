"""What is said to a service manager, on a real socket."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.service_manager import Manager

from gatewayd.systemd.notify import LONGEST_STATUS, Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@gatewayd-test-{os.getpid()}"
    with Manager(address) as manager:
        yield manager


def test_what_is_said_is_what_sd_notify_prescribes(manager: Manager) -> None:
    service = Notifier(manager.address)
    service.ready()
    service.stopping()
    service.ping_watchdog()
    assert [manager.heard() for _ in range(3)] == ["READY=1", "STOPPING=1", "WATCHDOG=1"]


def test_a_reload_is_dated_or_systemd_takes_it_for_an_earlier_one(manager: Manager) -> None:
    before = time.monotonic_ns() // 1000
    Notifier(manager.address).reloading()
    first, second = manager.heard().splitlines()
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_a_status_is_one_line_and_said_when_it_is_another(manager: Manager) -> None:
    service = Notifier(manager.address)
    for text in ("1 device", "1 device", "two\nlines,  43 %", "x" * 5000):
        service.status(text)
    assert [manager.heard() for _ in range(3)] == [
        "STATUS=1 device",
        "STATUS=two lines, 43 %",
        "STATUS=" + "x" * LONGEST_STATUS,
    ]


def test_a_status_that_nobody_took_is_said_again(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    service = Notifier(address)
    service.status("1 device")
    with Manager(address) as manager:
        service.status("1 device")
        assert manager.heard() == "STATUS=1 device"


def test_a_manager_that_does_not_listen_stops_nobody(tmp_path: Path) -> None:
    with Manager(str(tmp_path / "notify")) as manager:
        service = Notifier(manager.address)
        for _ in range(2000):  # more than any queue of datagrams holds
            service.ping_watchdog()
    for lost in (
        service,
        Notifier(str(tmp_path / "nothing")),
        Notifier("@nobody"),
        Notifier("x" * 300),
        Notifier(),
    ):
        lost.ready()
        lost.ping_watchdog()
        lost.status("\udcff")


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "77"}, 60.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "78"}, None),  # it is our parent's
        ({"WATCHDOG_USEC": "0", "WATCHDOG_PID": "77"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_whether_it_is_watched_is_in_the_environment(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    assert Notifier.of(environment, 77).watchdog_s == watchdog_s


def test_who_listens_is_in_the_environment(manager: Manager) -> None:
    Notifier.of({"NOTIFY_SOCKET": manager.address}, 77).ready()
    assert manager.heard() == "READY=1"
