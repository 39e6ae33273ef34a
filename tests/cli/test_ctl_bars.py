"""The table that `watch` draws, at its widest."""

import io

import pytest
from rich.console import Console

from gatewayd.cli.formatting import columns, duration, size, speed
from gatewayd.cli.watch import bars
from gatewayd.control.messages import DeviceView, Link

LINK = Link(kind="uart", address="/dev/ttyUSB0", baud=115200, health="ok", reason=None)
NOTHING = dict.fromkeys(DeviceView.model_fields)


def device(**fields: object) -> DeviceView:
    known = {"name": "pump-1", "app_id": "pump", "link": LINK, "state": "transferring", "paused": False}
    return DeviceView.model_validate(NOTHING | known | fields)


def drawn(*devices: DeviceView, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(bars(devices, height=24))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("state", ["transferring", "staged", "activating"])
def test_the_widest_device_has_a_line_of_80_columns(state: str) -> None:
    widest = {"progress": 100, "bytes_per_s": 1_048_000, "seconds_left": 35_999, "resumes": 99}
    (line,) = drawn(device(name="x" * 64, state=state, **widest))
    assert len(line) <= 80
    assert "resumed 99x" in line
    assert "100 %" in line
    if state == "transferring":
        assert "1023.4 KiB/s" in line
        assert "9:59:59 left" in line


def test_a_device_that_has_only_begun_has_a_bar_as_well() -> None:
    (line,) = drawn(device(progress=None))
    assert line.startswith("pump-1")
    assert "0 %" in line


def test_more_transfers_than_the_terminal_is_high_are_counted() -> None:
    many = [device(name=f"pump-{number}") for number in range(40)]
    lines = drawn(*many)
    assert len(lines) < 24
    assert "20 more" in lines[-1]


def test_without_a_transfer_it_says_so() -> None:
    assert drawn(device(state="idle")) == ["1 device; no transfer is under way"]


def test_a_table_that_does_not_fit_goes_on_below(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["DEVICE", "STATE", "PROGRESS"], ["x" * 30, "idle", ""], ["y", "transferring", "5 %"]]
    monkeypatch.setattr("gatewayd.cli.formatting.width", lambda: 44)
    assert columns(rows)[2] == f"y{' ' * 29} transferring\n    5 %"
    assert columns(rows)[1] == f"{'x' * 30} idle", "and no empty line"
    monkeypatch.setattr("gatewayd.cli.formatting.width", lambda: 52)
    assert columns(rows)[2] == f"y{' ' * 29} transferring 5 %"
    monkeypatch.setattr("gatewayd.cli.formatting.width", lambda: 0)
    assert columns(rows)[2] == f"y{' ' * 29}  transferring  5 %"


def test_figures() -> None:
    assert [size(one) for one in (None, 0, 1023, 1024, 200_000, 16 * 1024 * 1024)] == [
        "-", "0 B", "1023 B", "1.0 KiB", "195.3 KiB", "16.0 MiB",
    ]  # fmt: skip
    assert speed(None) == ""
    assert [duration(one) for one in (None, 0, 9, 3.21, 9.96, 59, 59.6, 3599, 3723)] == [
        "", "0 s", "9 s", "3.2 s", "10.0 s", "0:59", "1:00", "59:59", "1:02:03",
    ]  # fmt: skip
