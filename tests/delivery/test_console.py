"""The console in the log."""

import structlog
from structlog.testing import capture_logs

from gatewayd.delivery.console import BURST, LINES_PER_S, ConsoleLog


def test_a_boot_log_passes_whole() -> None:
    with capture_logs() as logs:
        console = ConsoleLog(structlog.get_logger().bind(device="pump-1"))
        for number in range(BURST):
            console.add(f"line {number}", 7.0)
    assert [entry["text"] for entry in logs] == [f"line {number}" for number in range(BURST)]
    assert all(entry["device"] == "pump-1" and "left_out" not in entry for entry in logs)


def test_what_goes_on_for_ever_is_thinned_out_and_counted() -> None:
    lines_per_s, seconds = 1000, 60
    with capture_logs() as logs:
        console = ConsoleLog(structlog.get_logger())
        for number in range(lines_per_s * seconds):
            console.add("flood", number / lines_per_s)
        console.add("end", seconds + 1 / LINES_PER_S)
    assert BURST < len(logs) <= BURST + LINES_PER_S * seconds + 1
    assert len(logs) + sum(entry.get("left_out", 0) for entry in logs) == lines_per_s * seconds + 1
