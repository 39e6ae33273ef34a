"""The console in the log."""

import structlog
from structlog.testing import capture_logs

from gatewayd.delivery.console import BURST, LINES_PER_S, ConsoleLimit, ConsoleLimits, ConsoleLog


def test_a_boot_log_passes_whole() -> None:
    with capture_logs() as logs:
        console = ConsoleLog(structlog.get_logger().bind(device="pump-1"), ConsoleLimit())
        for number in range(BURST):
            console.add(f"line {number}", 7.0)
    assert [entry["text"] for entry in logs] == [f"line {number}" for number in range(BURST)]
    assert all(entry["device"] == "pump-1" and "left_out" not in entry for entry in logs)


def test_what_goes_on_for_ever_is_thinned_out_and_counted() -> None:
    lines_per_s, seconds = 1000, 60
    with capture_logs() as logs:
        console = ConsoleLog(structlog.get_logger(), ConsoleLimit())
        for number in range(lines_per_s * seconds):
            console.add("flood", number / lines_per_s)
        console.add("end", seconds + 1 / LINES_PER_S)
    assert BURST < len(logs) <= BURST + LINES_PER_S * seconds + 1
    assert len(logs) + sum(entry.get("left_out", 0) for entry in logs) == lines_per_s * seconds + 1


def test_a_board_that_prints_at_each_probe_is_limited_over_all_of_them() -> None:
    limits, hours, probes_per_hour = ConsoleLimits(), 24, 12
    with capture_logs() as logs:
        for probe in range(hours * probes_per_hour):
            console = ConsoleLog(structlog.get_logger(), limits.of("pump-1"))
            for line in range(300):
                console.add(f"line {line}", probe * 3600 / probes_per_hour)
        ConsoleLog(structlog.get_logger(), limits.of("pump-2")).add("another", 0.0)
    assert logs[-1]["text"] == "another"
    assert len(logs) <= BURST + LINES_PER_S * 3600 * hours + 1
