"""What systemd hears while gatewayd runs, by a fake clock."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gatewayd.errors import HostError
from gatewayd.status.board import DeviceStatus
from gatewayd.status.gateway import BrokerStatus
from gatewayd.systemd.health import Vitals
from gatewayd.systemd.notify import Notifier
from gatewayd.systemd.status_line import status_line
from gatewayd.systemd.watchdog import Watchdog

WELL, HANGING = Vitals(), Vitals(late_loop_s=11.0)


class Said(Notifier):
    """A service whose manager is a list."""

    def __init__(self, watchdog_s: float | None) -> None:
        super().__init__("/somewhere", watchdog_s)
        self.messages: list[str] = []

    def _send(self, message: str, patience_s: float = 0.0) -> bool:
        assert patience_s == 0.0, "the loop does not wait for what is said again"
        self.messages.append(message)
        return True


async def beaten(watchdog_s: float | None, seconds: float, vitals: list[Vitals], *lines: str) -> list[str]:
    """Let it run for `seconds` of a fake clock; `vitals` and `lines` are taken one by one, the last stays."""
    service, now, texts = Said(watchdog_s), 1000.0, list(lines or ["idle"])

    async def sleep(interval_s: float) -> None:
        nonlocal now
        now += interval_s
        if now >= 1000.0 + seconds:
            raise asyncio.CancelledError

    watchdog = Watchdog(
        service,
        line=lambda: texts.pop(0) if len(texts) > 1 else texts[0],
        vitals=lambda: vitals.pop(0) if len(vitals) > 1 else vitals[0],
        clock=lambda: now,
        sleep=sleep,
    )
    with pytest.raises(asyncio.CancelledError):
        await watchdog.notify()
    return service.messages


async def test_the_dog_is_fed_three_times_in_its_interval() -> None:
    assert await beaten(60, 60, [WELL]) == ["STATUS=idle", *["WATCHDOG=1"] * 3]
    assert (await beaten(0.6, 6, [WELL])).count("WATCHDOG=1") == pytest.approx(30, abs=1)


async def test_nobody_watches_nobody_is_fed() -> None:
    assert await beaten(None, 60, [WELL], "idle", "1 device", "1 device") == [
        "STATUS=idle",
        "STATUS=1 device",
    ]


async def test_who_hangs_does_not_feed_it_and_says_why_once() -> None:
    with capture_logs() as logs:
        heard = await beaten(6, 20, [WELL, HANGING, HANGING, WELL, HANGING, WELL])
    assert heard.count("WATCHDOG=1") == 7
    assert [(line["code"], line["reason"]) for line in logs] == [
        ("hangs", "the event loop was late by 11 s")
    ] * 2


def device(name: str, state: str = "idle", progress: int | None = None) -> DeviceStatus:
    return DeviceStatus(name, state, progress=progress)


@pytest.mark.parametrize(
    ("devices", "line"),
    [
        ([], "no devices configured"),
        ([device("a")], "1 device, broker connected"),
        (
            [device("pump-1", "transferring", 43), device("b"), device("c")],
            "3 devices, 1 updating (pump-1 43 %), broker connected",
        ),
        (
            [device("a", "activating", 100), device("b", "unreachable"), device("c", "queued", 7)],
            "3 devices, 1 updating (a 100 %), 1 unreachable, 1 queued, broker connected",
        ),
        (
            [device(name, "transferring") for name in "abcde"],
            "5 devices, 5 updating (a 0 %, b 0 %, c 0 %, …), broker connected",
        ),
        (
            [device("a", "failed"), device("b", "refused"), device("c", "refused"), device("d", "offered")],
            "4 devices, 2 refused, 1 offered, 1 failed, broker connected",
        ),
    ],
)
def test_a_line_says_how_things_stand(devices: list[DeviceStatus], line: str) -> None:
    assert status_line(devices, BrokerStatus(is_connected=True), configured=len(devices)) == line


def test_what_needs_a_person_comes_first() -> None:
    full = HostError("no space", code="disk_full", hint="make room")
    assert status_line([], BrokerStatus(), configured=2, trouble=full, refusal="c.yaml:4: foo") == (
        "the new configuration is refused, the old one is in force: c.yaml:4: foo; "
        "nothing can be stored: no space (make room) (disk_full); 2 devices, broker not connected"
    )
