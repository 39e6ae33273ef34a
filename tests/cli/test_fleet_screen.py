"""What `fleet status` shows of a large fleet, and what its conditions select."""

import pytest

from gatewayd.cli.fleet import LEAST_ROWS, SCREEN_ROWS, _print_report, screen_rows
from gatewayd.fleet.selection import Selection
from gatewayd.fleet.status import DeviceReport, FleetDevice, FleetGateway, FleetStatus


def a_device(name: str, state: str = "idle", version: str = "4.3.1") -> FleetDevice:
    report = DeviceReport(state=state, app_id="pump", installed_version=version, code="x", reason="why")
    return FleetDevice(name=name, stuck=report.is_stuck, **report.model_dump())


def a_fleet(size: int = 200, *, bad: int = 3) -> FleetStatus:
    """Some gateways have a device that failed, one is offline, one has a device with another version."""
    gateways = [
        FleetGateway(
            name=f"gw-{number:03}",
            status="offline" if number == 7 else "online",
            devices=(
                a_device("pump-1", "failed" if number < bad else "idle"),
                a_device("pump-2", version="4.3.2" if number == 9 else "4.3.1"),
            ),
        )
        for number in range(size)
    ]
    return FleetStatus(broker="mq:1883", gateways=tuple(gateways), ok=False)


def printed(capsys: pytest.CaptureFixture[str], fleet: FleetStatus, rows: int = SCREEN_ROWS) -> list[str]:
    _print_report(fleet, rows=rows)
    return capsys.readouterr().out.splitlines()


def test_two_hundred_gateways_fit_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, a_fleet())
    assert len(lines) < 24
    assert [line.split()[0] for line in lines[1:5]] == ["gw-000", "gw-001", "gw-002", "gw-007"]
    assert lines[5] == "and 196 other gateways, of which none need attention"
    assert lines[-1].startswith("200 gateways at mq:1883: 199 online, 1 offline; 400 devices, 3 stuck")


def test_neither_does_a_fleet_that_is_down_overflow_it(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, a_fleet(bad=200))
    assert len(lines) < 3 * SCREEN_ROWS
    assert "and 180 other gateways, of which 180 need attention" in lines
    assert "and 190 more: --stuck lists them" in lines


def test_nor_does_one_in_which_every_device_runs_another_version(capsys: pytest.CaptureFixture[str]) -> None:
    fleet = a_fleet(bad=0)
    others = [
        gateway.model_copy(update={"devices": (a_device("pump-1", version=f"4.3.{number + 10}"),)})
        for number, gateway in enumerate(fleet.gateways)
    ]
    lines = printed(capsys, fleet.model_copy(update={"gateways": (*fleet.gateways, *others)}))
    assert len(lines) < 24
    assert sum(line.startswith("pump ") for line in lines) == SCREEN_ROWS // 2
    assert ["pump", "4.3.1", "399"] in [line.split() for line in lines], "the most frequent is among them"
    assert "and 192 other versions on 192 devices" in lines


@pytest.mark.parametrize("height", [30, 40, 48])
def test_a_fleet_that_is_down_fits_the_terminal(capsys: pytest.CaptureFixture[str], height: int) -> None:
    fleet = a_fleet(bad=200)
    lines = printed(capsys, fleet, screen_rows(fleet, height))
    assert height - 8 < len(lines) < height, "and makes use of it"


def test_on_a_low_terminal_there_is_something_of_everything() -> None:
    assert screen_rows(a_fleet(bad=200), 5) == LEAST_ROWS
    assert screen_rows(a_fleet(bad=200), 500) == SCREEN_ROWS


def test_what_was_selected_is_listed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(printed(capsys, a_fleet(bad=200), rows=10**6)) > 600


def test_a_small_fleet_is_listed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert sum(line.startswith("gw-") for line in printed(capsys, a_fleet(SCREEN_ROWS, bad=0))) == SCREEN_ROWS


@pytest.mark.parametrize(
    ("selection", "gateways", "devices", "ok"),
    [
        (Selection(), 200, 400, False),
        (Selection(stuck=True), 3, 3, False),
        (Selection(offline=True), 1, 2, False),
        (Selection(version="4.3.2"), 1, 1, True),
        (Selection(version="4.3.2", stuck=True), 0, 0, True),
        (Selection(offline=True, stuck=True), 0, 0, True),
    ],
)
def test_conditions(selection: Selection, gateways: int, devices: int, *, ok: bool) -> None:
    found = selection.of(a_fleet())
    assert (len(found.gateways), sum(len(one.devices) for one in found.gateways), found.ok) == (
        gateways,
        devices,
        ok,
    )
